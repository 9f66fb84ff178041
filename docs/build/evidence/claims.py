"""Table of the gains of methods: intervals, tests, and verdicts."""

from collections.abc import Iterable, Iterator

from analysis.tables.formatting import ABSENT, is_number, number
from analysis.tables.rows import ResultRow


def table(rows: Iterable[ResultRow]) -> Iterator[dict[str, str]]:
    """Yield a line for each row of a table that has a gain.

    The pooled and the moderated interval hold for all planned rows of the table together; the
    interval in the table of results spans both. The t interval and the tests of p and p, exact are
    those of the row's own seeds.
    """
    for row in rows:
        if gain := row.gain:
            yield {
                "Row": row.label,
                "Gain": number(gain.mean, signed=True),
                "Pooled interval": ends(gain.pooled),
                "Moderated interval": ends(gain.moderated),
                "p, adjusted": probability(gain.p_adjusted),
                "p, equivalence": probability(gain.p_equivalence),
                "t interval": ends(gain.over_seeds),
                "p": probability(gain.p),
                "p, exact": probability(gain.p_exact),
                "Image interval": ends(gain.over_images),
                "Judgment": gain.judgment,
            }


def probability(value: float | None) -> str:
    """Return a p value in print."""
    if not is_number(value):
        return ABSENT
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def ratio(value: float) -> str:
    """Return a ratio in print, with two digits however small it is."""
    return f"{value:.2g}" if is_number(value) else ABSENT


def ends(interval: tuple[float, float] | None) -> str:
    """Return the ends of an interval in print."""
    if interval is None:
        return ABSENT
    low, high = (number(end, signed=True) for end in interval)
    return f"{low} to {high}"
