"""Adaptation layers on the student's maps, and the distance of adapted maps from the teacher's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from kd.common.modules import LazyModule
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.reduction import shared_sum

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = LazyModule("torch")
    nn = LazyModule("torch.nn")

_ADAPTATION = """\
Convolution on each of the student's maps before the comparison. ``none`` still adds a 1x1
convolution on levels whose numbers of channels differ."""
Adaptation = Annotated[Literal["none", "1x1", "3x3", "3x3_relu"], Field(description=_ADAPTATION)]
"""Setting of a method that imitates maps: the adaptation layer of each level."""

INITIAL_SCALE = 1e-4
"""Factor of a 3x3 convolution's initial weights, in FGFI's code and all code derived from it."""


def adaptations(student: list[int], teacher: list[int], kind: Adaptation) -> dict[str, nn.Module]:
    """Return the layers ``level0``, ... from the student's channel counts to the teacher's.

    A 1x1 convolution has torch's initial weights. A 3x3 convolution starts as in FGFI
    (twangnh/Distilling-Object-Detectors c6583f3a), DeFeat and United-Perception: weights are
    normal modulo 2, times 1e-4, and the bias is torch's.
    """
    return adaptations_of(dict(enumerate(zip(student, teacher, strict=True))), kind)


def adaptations_of(channels: dict[int, tuple[int, int]], kind: Adaptation) -> dict[str, nn.Module]:
    """Return the layers of ``adaptations`` for some levels of the student.

    ``channels``: channel counts of (student, teacher) by the student's level.
    """
    return {
        f"level{level}": _layer(student_channels, teacher_channels, kind)
        for level, (student_channels, teacher_channels) in channels.items()
        if kind != "none" or student_channels != teacher_channels
    }


def adapted(adapters: Any, level: int, student_map: Tensor) -> Tensor:
    """Return a student's map in full precision, through its level's layer if there is one."""
    return _through(adapters, f"level{level}", student_map)


def alignment(level: int, student: int, teacher: int) -> dict[str, nn.Module]:
    """Return ``align0`` for level 0: a 1x1 convolution if the numbers of channels differ."""
    return {f"align{level}": nn.Conv2d(student, teacher, 1)} if student != teacher else {}


def aligned(adapters: Any, level: int, student_map: Tensor) -> Tensor:
    """Return a student's map in full precision, through its ``alignment`` if there is one."""
    return _through(adapters, f"align{level}", student_map)


def squared_distance(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return (B, H, W): the squared difference of maps (B, C, H, W), summed over channels."""
    return (student_map - full_precision(teacher_map.detach())).square().sum(1)


def zero_without_positives(
    terms: list[Tensor], student: Any, levels: Iterable[int] | None = None
) -> list[Tensor]:
    """Return one term per level, multiplied by 0 on levels without a positive prior in the batch.

    ``student``: an observation with ``assignment`` and ``level_priors``. LD's code
    (HikariTJU/LD 4287990c, ``ld_head.py``) has no term on those levels. ``levels``: the student's
    levels of the terms; by default all.
    """
    positives = (student.assignment >= 0).sum(0)
    priors_per_level = [len(priors) for priors in student.level_priors]
    per_level = torch.stack([level.sum() for level in positives.split(priors_per_level)])
    has_positives = (shared_sum(per_level.float()) > 0).float()
    if levels is None:
        levels = range(len(has_positives))
    return [term * has_positives[level] for term, level in zip(terms, levels, strict=True)]


def _through(adapters: Any, name: str, student_map: Tensor) -> Tensor:
    student_map = full_precision(student_map)
    return adapters[name](student_map) if name in adapters else student_map


def _layer(student_channels: int, teacher_channels: int, kind: Adaptation) -> nn.Module:
    if kind in ("none", "1x1"):
        return nn.Conv2d(student_channels, teacher_channels, 1)
    convolution = nn.Conv2d(student_channels, teacher_channels, 3, padding=1)
    convolution.weight.data.normal_().fmod_(2).mul_(INITIAL_SCALE)
    return nn.Sequential(convolution, nn.ReLU()) if kind == "3x3_relu" else convolution
