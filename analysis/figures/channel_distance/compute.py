"""How far a student's neck is from its teacher's, channel by channel, on objects and off them."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.figures.networks import Probe
from kd.common.errors import UserError
from kd.methods.ops.adapters import adapted
from kd.methods.ops.masks import object_mask
from kd.observers import Batch, Observation, observe


class Distances(NamedTuple):
    """Of the cells of all images: on objects first, then on the background."""

    mean: np.ndarray
    """(2, C): the mean distance on the cells of a region; NaN where it has none."""
    cells: np.ndarray
    """(2,): how many there are."""
    images: int
    stride: int
    """Pixels per cell."""


def channel_distances(
    student: Probe,
    teacher: Probe,
    samples: Iterable[dict[str, Any]],
    level: int = 0,
    adapters: Any = (),
) -> Distances:
    """Return d_c^R, the mean of |T - S| over the cells R, of a neck level.

    DeFeat's supplement (Guo et al., CVPR 2021), figure 1. ``samples``: of
    ``analysis.figures.networks.images``, of which one at a time is looked at; ``adapters``: layers
    ``level<i>``, through which the student's map is seen. UserError where a neck has no such
    level, or the maps differ in size.
    """
    with torch.no_grad():
        found = [_of_image(student, teacher, sample, level, adapters) for sample in samples]
    sums, cells, strides = zip(*found, strict=True)
    count = torch.stack(cells).sum(0)
    mean = torch.stack(sums).sum(0) / count[:, None]  # 0 / 0 is NaN
    return Distances(mean.cpu().numpy(), count.cpu().numpy().astype(int), len(found), strides[0])


def _of_image(
    student: Probe, teacher: Probe, sample: dict[str, Any], level: int, adapters: Any
) -> tuple[Tensor, Tensor, int]:
    """Return sums (2, C) and numbers (2,) of cells by region, and the stride."""
    batch = student.batch(sample)
    seen = observe(student.detector, batch, frozen=True)
    found = adapted(adapters, level, _neck_level(seen, level, student))
    wanted = _neck_level(observe(teacher.detector, batch, frozen=True), level, teacher).float()
    _check(found, wanted, student, teacher, level)
    masks = _regions(batch, seen.strides[level], found)
    gaps = (wanted - found).abs().double()
    return (
        torch.einsum("rbhw,bchw->rc", masks, gaps),
        masks.sum((1, 2, 3)),
        seen.strides[level],
    )


def level_adapters(probe: Probe, level: int) -> Any:
    """Return the layers of a run that map a neck level to the teacher's; without any, none.

    Those of the first method with a layer for this level. UserError as ``Probe`` says.
    """
    name = f"level{level}"
    for adapters in getattr(probe.model, "adapters", {}).values():
        if name in adapters:
            probe.check_adapters()
            return adapters
    return ()


def _regions(batch: Batch, stride: float, like: Tensor) -> Tensor:
    """Return (2, B, H, W), 1 and 0: the cells of a map that lie on any object, and the others."""
    objects = object_mask(batch, stride, (like.shape[-2], like.shape[-1])).double()
    return torch.stack([objects, 1 - objects])


def _neck_level(seen: Observation, level: int, probe: Probe) -> Tensor:
    """Return a neck level (B, C, H, W); UserError where the network has no such level."""
    last = len(seen.neck) - 1
    if level > last:
        raise UserError(f"level {level}: the neck of {probe.directory} has levels 0 to {last}")
    return seen.neck[level]


def _check(found: Tensor, wanted: Tensor, student: Probe, teacher: Probe, level: int) -> None:
    if found.shape == wanted.shape:
        return
    of = f"level {level} of the neck of {student.directory}"
    if found.shape[1] != wanted.shape[1]:
        raise UserError(
            f"{of} has {found.shape[1]} channels, that of the teacher {teacher.directory} "
            f"{wanted.shape[1]}; only a run with a layer from one to the other can be compared, "
            "with 'adapted: true'"
        )
    sizes = [" x ".join(map(str, each.shape[-2:])) for each in (found, wanted)]
    raise UserError(f"{of} has {sizes[0]} cells, that of {teacher.directory} {sizes[1]}")
