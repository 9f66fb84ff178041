"""Table of the gains of methods: intervals, tests, and verdicts."""

from collections.abc import Iterable, Iterator

from analysis.statistics.gains import Gain
from analysis.statistics.seeds import Interval
from analysis.tables.formatting import ABSENT, is_number, number
from analysis.tables.rows import ResultRow

UNDECIDED = "undecided"
"""Outcome of a test whose corrected p is 0.05 or more."""


def table(rows: Iterable[ResultRow]) -> Iterator[dict[str, str]]:
    """Yield a line for each row of a table that has a gain."""
    for row in rows:
        if gain := row.gain:
            yield {
                "Row": row.label,
                "Gain": number(gain.mean, signed=True),
                "Seed interval": _ends(gain.over_seeds),
                "Image interval": _ends(gain.over_images),
                "p": probability(gain.p),
                "p, corrected": probability(gain.p_adjusted),
                "p, exact": probability(gain.p_exact),
                "Verdict": verdict(gain),
            }


def verdict(gain: Gain) -> str:
    """Return the judgment on a gain: helps or hurts, else undecided."""
    return gain.judgment if gain.significant else UNDECIDED


def probability(value: float | None) -> str:
    """Return a p value in print."""
    if not is_number(value):
        return ABSENT
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def ratio(value: float) -> str:
    """Return a ratio in print, with two digits however small it is."""
    return f"{value:.2g}" if is_number(value) else ABSENT


def _ends(interval: Interval | None) -> str:
    if interval is None:
        return ABSENT
    low, high = (number(end, signed=True) for end in interval)
    return f"{low} to {high}"
