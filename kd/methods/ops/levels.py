"""Levels that two pyramids share."""

from __future__ import annotations

from collections.abc import Sequence


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
