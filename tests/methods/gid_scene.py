"""Two made-up detectors that disagree, for the tests of GID."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from kd.methods.gid import GeneralInstanceDistillation
from kd.observers import Batch


class View(SimpleNamespace):
    """What GID reads of a detector, with decoded boxes for its codes."""

    softmax = False

    def boxes(self, image: Tensor, prior: Tensor) -> Tensor:
        return self.decoded[image, prior]

    def codes(self, image: Tensor, prior: Tensor) -> Tensor:
        return self.encoded[image, prior]

    @property
    def probabilities(self) -> Tensor:
        return self.logits.sigmoid()


STRIDES = [16, 8]  # as YOLOv3's, the coarsest first
PRIORS = torch.tensor(
    [[0.0, 0, 30, 30], [40, 0, 70, 30], [0, 40, 30, 60], [40, 40, 90, 60], [60, 8, 90, 38]]
)


def view(seed: int, channels: int = 4, images: int = 2, gradients: bool = False) -> View:
    """Two levels of noise, and five priors of two classes whose boxes are somewhat off."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).requires_grad_(gradients)

    neck = [noise(images, channels, 4, 6), noise(images, channels, 8, 12)]
    made = {"neck": neck, "strides": STRIDES, "priors": PRIORS, "logits": noise(images, 5, 2)}
    made |= {"encoded": noise(images, 5, 4), "decoded": PRIORS + noise(images, 5, 4)}
    return View(**made, assignment=torch.full((images, 5), -1))


def batch_of(images: int = 2, sizes: tuple[tuple[int, int], ...] = ((64, 96), (64, 96))) -> Batch:
    truth = SimpleNamespace(bboxes=torch.tensor([[2.0, 2, 40, 30]]), labels=torch.tensor([0]))
    samples = [SimpleNamespace(gt_instances=truth, img_shape=size) for size in sizes[:images]]
    return Batch(torch.zeros(images, 3, 64, 96), samples)


def losses(student: View, teacher: View, batch: Batch | None = None, **settings: Any) -> Any:
    term = GeneralInstanceDistillation(**{"adapter": "where_widths_differ", **settings})
    return term.losses(student, teacher, batch or batch_of(len(student.logits)), nn.ModuleDict())


def regions(student: View, teacher: View, **settings: Any) -> list[Tensor]:
    term = GeneralInstanceDistillation(**settings)
    return term.general_instances(student, teacher, batch_of(len(student.logits)))
