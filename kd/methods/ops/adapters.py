"""Imitating a teacher's maps: adaptation layers on the student's, and distances over regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from kd.common.modules import LazyModule
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.reduction import shared_count, shared_sum

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = LazyModule("torch")
    nn = LazyModule("torch.nn")

Adaptation = Literal["none", "1x1", "3x3", "3x3_relu"]
"""A convolution on the student's maps. With ``none``, a 1x1 where numbers of channels differ."""

SCALE = 1e-4
"""Of the initial weights of a 3x3 convolution: FGFI's code, and all that took it over."""


def adaptations(student: list[int], teacher: list[int], kind: Adaptation) -> dict[str, nn.Module]:
    """Return the layers ``level0``, ... from the student's numbers of channels to the teacher's.

    A 1x1 starts as torch makes it. A 3x3 starts as in FGFI (twangnh/Distilling-Object-Detectors
    c6583f3a), DeFeat and United-Perception: normal modulo 2, times 1e-4, the bias as torch's.
    """
    pairs = enumerate(zip(student, teacher, strict=True))
    return {
        f"level{level}": _layer(narrow, wide, kind)
        for level, (narrow, wide) in pairs
        if kind != "none" or narrow != wide
    }


def adapted(adapters: Any, level: int, feature: Tensor) -> Tensor:
    """Return a student's map in full precision, through its level's layer if there is one."""
    name, feature = f"level{level}", full_precision(feature)
    return adapters[name](feature) if name in adapters else feature


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return (B, H, W): the squared difference of maps (B, C, H, W), summed over channels."""
    return (student - full_precision(teacher.detach())).square().sum(1)


def mean_over(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of values (B, H, W) weighted by a mask of that shape; 0 if it is empty.

    Over all processes, as ``kd.methods.ops.reduction`` says. A mask of weights that sum to less
    than 1 is taken to sum to 1.
    """
    if mask is None:
        return values.sum() / shared_count(values.numel())
    return (values * mask).sum() / shared_count(mask.sum())


def levels_with_positives(student: Any) -> Tensor:
    """Return (L,): 1 for a level with a positive prior in the batch, else 0.

    ``student``: an observation with ``assignment`` and ``level_priors``. LD's code
    (HikariTJU/LD 4287990c, ``ld_head.py``) has no term on other levels.
    """
    positive = (student.assignment >= 0).sum(0)
    counts = [len(priors) for priors in student.level_priors]
    by_level = torch.stack([each.sum() for each in positive.split(counts)])
    return (shared_sum(by_level.float()) > 0).float()


def _layer(narrow: int, wide: int, kind: Adaptation) -> nn.Module:
    if kind in ("none", "1x1"):
        return nn.Conv2d(narrow, wide, 1)
    convolution = nn.Conv2d(narrow, wide, 3, padding=1)
    convolution.weight.data.normal_().fmod_(2).mul_(SCALE)
    return nn.Sequential(convolution, nn.ReLU()) if kind == "3x3_relu" else convolution
