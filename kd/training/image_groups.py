"""Losses of a method over groups of images, as each GPU of published code computes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kd.common.modules import LazyModule
from kd.methods.ops.reduction import alone, shared_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.methods.base import Losses, Method
    from kd.observers import Batch
else:
    torch = LazyModule("torch")


def grouped_losses(
    method: Method, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict
) -> Losses:
    """Return a method's losses for the whole batch, or their mean over groups of images.

    ``method.images_per_group`` is the size of a group; the last group of a process may be smaller.
    Every count, norm and batch normalization covers the images of one group. The mean is over the
    groups of all processes. The arguments are those of ``Method.losses``.
    """
    if method.images_per_group is None:
        return method.losses(student, teacher, batch, adapters)
    with alone():
        parts = [
            method.losses(*group, adapters) for group in _groups(method, student, teacher, batch)
        ]
    divisor = shared_count(len(parts))
    return {name: _mean([part[name] for part in parts], divisor) for name in parts[0]}


def _groups(
    method: Method, student: Any, teacher: Any, batch: Batch
) -> Iterator[tuple[Any, Any, Batch]]:
    """Yield student, teacher and batch of each group."""
    images, size = len(batch.inputs), method.images_per_group
    assert size is not None
    if images <= size:
        yield student, teacher, batch
        return
    for start in range(0, images, size):
        group = slice(start, min(start + size, images))
        is_observation = method.needs.teacher == "detector"
        group_teacher = teacher.subset(group) if is_observation else teacher
        yield student.subset(group), group_teacher, batch.subset(group)


def _mean(values: list[Any], divisor: float | Tensor) -> Tensor | list[Tensor]:
    """Return the sum of a term over groups divided by ``divisor``, by level if the term is."""
    if isinstance(values[0], list):
        return [torch.stack(level).sum(0) / divisor for level in zip(*values, strict=True)]
    return torch.stack(values).sum(0) / divisor
