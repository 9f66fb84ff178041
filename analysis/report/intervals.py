"""Gain bars: ours with its interval and the published gain, on one axis per table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil, floor
from typing import NamedTuple

from analysis.statistics.seeds import Interval
from analysis.tables.formatting import number
from analysis.tables.rows import ResultRow

WIDTH, HEIGHT, MARGIN = 112, 18, 6
"""Pixels of a bar, and of its margins, which only marks reach into."""
TICK_DISTANCE = 20
"""Pixels between two labels of an axis that do not overlap."""


class GainBar(NamedTuple):
    """Positions on the axis in pixels; None where there is nothing to draw."""

    zero: float
    gain: float | None
    over_seeds: tuple[float, float] | None
    over_images: tuple[float, float] | None
    published: float | None


@dataclass(frozen=True)
class Axis:
    """The range of a table's gain bars, in whole AP points."""

    low: int
    high: int

    @classmethod
    def of(cls, rows: Iterable[ResultRow]) -> "Axis":
        """Return the axis that holds 0 and every gain and interval of the rows."""
        values = [value for row in rows for value in _values(row)]
        return cls(floor(min([*values, -0.5])), ceil(max([*values, 0.5])))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of both ends and, if it is far enough from them, of 0."""
        ends = {self.at(value): value for value in (self.low, self.high)}
        is_apart = all(abs(self.at(0) - place) > TICK_DISTANCE for place in ends)
        places = ends | ({self.at(0): 0} if is_apart else {})
        return [
            (place, number(value, signed=True).removesuffix(".0"))
            for place, value in sorted(places.items())
        ]

    def at(self, value: float) -> float:
        """Return the position of a gain, in pixels from the left."""
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - self.low) / (self.high - self.low), 1)

    def bar(self, row: ResultRow) -> GainBar | None:
        """Return the bar of a row; None for a row without a gain, ours or published."""
        gain, published = row.gain, row.published_gain
        if gain is None and published is None:
            return None
        return GainBar(
            self.at(0),
            self.at(gain.mean) if gain else None,
            self._span(gain.simultaneous if gain else None),
            self._span(gain.over_images if gain else None),
            None if published is None else self.at(published),
        )

    def _span(self, interval: Interval | None) -> tuple[float, float] | None:
        return (self.at(interval.low), self.at(interval.high)) if interval else None


def _values(row: ResultRow) -> Iterator[float]:
    """Yield every value of a row that its bar draws."""
    if row.gain:
        yield row.gain.mean
        yield from row.gain.simultaneous or ()
        yield from row.gain.over_images or ()
    if row.published_gain is not None:
        yield row.published_gain
