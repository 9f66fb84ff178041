"""Levels that two pyramids share, and maps of one size on a shared level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor

    from kd.observers import Channels
else:
    F = LazyModule("torch.nn.functional")

TWO_STAGE_LEVELS = 4
"""Levels of two-stage detectors that the code of FGD and MGD compares: P2 to P5. P6 is pooled from
P5 and has no convolution."""
_LEVELS = """\
Number of neck levels that are compared, from the finest; null compares all, and so does a number
beyond them. Two-stage detectors have 4: the code leaves out P6, which is pooled from P5."""
ComparedLevels = Annotated[PositiveInt | None, Field(description=_LEVELS)]
"""Setting ``levels`` of FGD and MGD."""


def shared_levels(student: Sequence[int], teacher: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of (student level, teacher level) whose strides are equal, finest first.

    ``student`` and ``teacher`` are strides in pixels, by level. A stride that occurs twice in a
    pyramid counts once, at its first level.
    """
    teacher_levels = {stride: level for level, stride in reversed([*enumerate(teacher)])}
    pairs = {
        stride: (level, teacher_levels[stride])
        for level, stride in reversed([*enumerate(student)])
        if stride in teacher_levels
    }
    return [pairs[stride] for stride in sorted(pairs)]


def level_pairs(student: Sequence[int], teacher: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of (student level, teacher level), in the order of the student's levels.

    They are all levels of two equal pyramids, otherwise the levels of equal stride.
    ``student`` and ``teacher`` are strides in pixels, by level.
    """
    if [*student] == [*teacher]:
        return [(level, level) for level in range(len(student))]
    return sorted(shared_levels(student, teacher))


def channel_pairs(
    student: Channels, teacher: Channels, levels: Sequence[tuple[int, int]] | None = None
) -> dict[int, tuple[int, int]]:
    """Return the channels of (student, teacher) on compared levels, by the student's level.

    ``levels`` are pairs of levels; by default those of ``level_pairs``.
    """
    if levels is None:
        levels = level_pairs(student.strides, teacher.strides)
    return {
        student_level: (student.neck[student_level], teacher.neck[teacher_level])
        for student_level, teacher_level in levels
    }


def resized(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return a student's map (B, C, h, w), resized to the teacher's (H, W) if they differ.

    Interpolation is bilinear, as in mmrazor (open-mmlab/mmrazor 90c7af1f, ``resize_stu``).
    """
    size = teacher_map.shape[-2:]
    if student_map.shape[-2:] == size:
        return student_map
    return F.interpolate(student_map, tuple(size), mode="bilinear")


def compared_levels(
    student: Sequence[int], teacher: Sequence[int], count: int | None
) -> list[tuple[int, int]]:
    """Return the ``count`` finest of ``level_pairs``, finest first; all if it is None."""
    return sorted(level_pairs(student, teacher), key=lambda pair: student[pair[0]])[:count]
