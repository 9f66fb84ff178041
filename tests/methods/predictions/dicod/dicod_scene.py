"""Handmade classifier, students and batches for the tests of DICOD."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from kd.methods.predictions.dicod import Dicod
from kd.observers import Batch, Candidates
from tests.methods.scenes import make_batch

SIDE = 8
"""Samples along a side of a crop in these tests."""
SMALL = {"pixel_pool": 2, "stage_pools": (2,)}
TERMS = {"loss_dicod_cls", "loss_dicod_loc", "loss_dicod_kd_loc"}
TEACHER, STUDENT = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, 0.0, -1.0]])
"""Logits of a classifier, and of a student with background last."""
ONE_BOX = 1.016835
"""The class term of one box with these logits at the weight 1, from the method reference."""


class Classifier(nn.Module):
    """Classifier with two stages, batch normalization among them."""

    size = SIDE

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU())
        self.fc = nn.Linear(5, classes)
        self.eval().requires_grad_(False)

    def stages(self, objects: Tensor, last: int) -> list[Tensor]:
        stem = self.stem(objects)
        return [stem, self.body(stem)][: last + 1]

    def logits(self, objects: Tensor) -> Tensor:
        return self.fc(self.stages(objects, 1)[1].mean((2, 3)))


class ConstantClassifier(Classifier):
    """Classifier with the logits ``TEACHER`` for every crop."""

    def logits(self, objects: Tensor) -> Tensor:
        return TEACHER.expand(len(objects), 3)


def labeled_batch(images: Tensor, *boxes: list[list[float]]) -> Batch:
    """Return a batch with boxes, xyxy, of labels 0, 1, ... in each image."""
    tensors = [torch.tensor(rows, dtype=images.dtype).reshape(-1, 4) for rows in boxes]
    return make_batch(images, tensors, [torch.arange(len(rows)) % 3 for rows in boxes])


def student_of(boxes: Tensor, image: list[int], instance: list[int], logits: Tensor) -> Any:
    """Return an observation of candidates with boxes (P, 4) and logits (P, K)."""
    index = torch.arange(len(image))
    return SimpleNamespace(
        boxes=boxes.requires_grad_(),
        logits=logits.requires_grad_(),
        candidates=Candidates(torch.tensor(image), index, torch.tensor(instance)),
        candidate_softmax=logits.shape[1] == 4,
        candidate_boxes=lambda candidates: boxes[candidates.index],
        candidate_logits=lambda candidates: logits[candidates.index],
    )


def losses(student: Any, data: Batch, teacher: Any = None, **settings: Any) -> dict[str, Tensor]:
    return Dicod(**{**SMALL, **settings}).losses(student, teacher or Classifier(), data, {})
