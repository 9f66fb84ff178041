"""Two handmade detectors with different outputs, for the tests of GID."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from kd.methods.features.gid import GeneralInstanceDistillation
from kd.observers import Batch
from tests.methods.scenes import make_batch


class View(SimpleNamespace):
    """Observation that GID reads, with decoded boxes and codes in attributes."""

    softmax = False

    def boxes(self, image: Tensor, prior: Tensor) -> Tensor:
        return self.decoded[image, prior]

    def codes(self, image: Tensor, prior: Tensor) -> Tensor:
        return self.encoded[image, prior]

    @property
    def probabilities(self) -> Tensor:
        return self.logits.sigmoid()


STRIDES = [16, 8]  # the coarsest first, as in YOLOv3
PRIORS = torch.tensor(
    [[0.0, 0, 30, 30], [40, 0, 70, 30], [0, 40, 30, 60], [40, 40, 90, 60], [60, 8, 90, 38]]
)


def view(seed: int, channels: int = 4, images: int = 2, gradients: bool = False) -> View:
    """Return two levels of noise, and five priors of two classes with boxes slightly off them."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).requires_grad_(gradients)

    return View(
        neck=[noise(images, channels, 4, 6), noise(images, channels, 8, 12)],
        strides=STRIDES,
        priors=PRIORS,
        logits=noise(images, 5, 2),
        encoded=noise(images, 5, 4),
        decoded=PRIORS + noise(images, 5, 4),
        assignment=torch.full((images, 5), -1),
    )


def batch_of(images: int = 2, sizes: tuple[tuple[int, int], ...] = ((64, 96), (64, 96))) -> Batch:
    """Return blank images with one object each."""
    boxes, labels = torch.tensor([[2.0, 2, 40, 30]]), torch.tensor([0])
    blank = torch.zeros(images, 3, 64, 96)
    return make_batch(blank, [boxes] * images, [labels] * images, sizes[:images])


def losses(student: View, teacher: View, batch: Batch | None = None, **settings: Any) -> Any:
    method = GeneralInstanceDistillation(**{"adapter": "where_widths_differ", **settings})
    return method.losses(student, teacher, batch or batch_of(len(student.logits)), nn.ModuleDict())


def regions(student: View, teacher: View, **settings: Any) -> list[Tensor]:
    method = GeneralInstanceDistillation(**settings)
    return method.general_instances(student, teacher, batch_of(len(student.logits)))
