"""Gains drawn as small bars: ours with its interval, and the published one, on one axis a table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, NamedTuple

import pandas as pd

from analysis.tables.formatting import number

WIDTH, HEIGHT, MARGIN = 112, 18, 6
"""Pixels of a bar, and of its ends that nothing but a mark reaches into."""
DRAWN = ("gain", "gain_low", "gain_high", "image_low", "image_high", "published_gain")


class Bar(NamedTuple):
    """Places on the axis in pixels; None where there is nothing to draw."""

    zero: float
    gain: float | None
    interval: tuple[float, float] | None
    """Begin and end of the interval over seeds."""
    images: tuple[float, float] | None
    """Begin and end of the interval over images."""
    published: float | None


@dataclass(frozen=True)
class Axis:
    """The gains that a table's bars span, in AP points, to whole points."""

    low: int
    high: int

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]]) -> "Axis":
        """Return the axis on which everything that is drawn of the lines, and 0, has a place."""
        values = [float(line[key]) for line in lines for key in DRAWN if has(line, key)]
        return cls(floor(min([*values, -0.5])), ceil(max([*values, 0.5])))

    def __str__(self) -> str:
        ends = (number(end, signed=True) for end in (self.low, self.high))
        return " to ".join(end.removesuffix(".0") for end in ends)

    def at(self, value: float) -> float:
        """Return the place of a gain, in pixels from the left."""
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - self.low) / (self.high - self.low), 1)

    def bar(self, line: Mapping[str, Any]) -> Bar | None:
        """Return what is drawn of a row; None where it has no gain, ours or published."""
        if not has(line, "gain") and not has(line, "published_gain"):
            return None
        return Bar(
            self.at(0),
            self._place(line, "gain"),
            self._span(line, "gain_low", "gain_high"),
            self._span(line, "image_low", "image_high"),
            self._place(line, "published_gain"),
        )

    def _place(self, line: Mapping[str, Any], key: str) -> float | None:
        return self.at(float(line[key])) if has(line, key) else None

    def _span(self, line: Mapping[str, Any], low: str, high: str) -> tuple[float, float] | None:
        if not (has(line, low) and has(line, high)):
            return None
        return self.at(float(line[low])), self.at(float(line[high]))


def has(line: Mapping[str, Any], key: str) -> bool:
    """Return whether a row of the frame has a value there."""
    return key in line and not pd.isna(line[key])
