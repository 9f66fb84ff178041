"""What our seeds say of a published gain; the rule is explained in docs/statistics.md."""

from analysis.statistics.seeds import WORTH_FINDING

PAPER = "paper"
"""The scale whose conditions are the published ones."""


def verdict(
    seeds: int,
    interval: tuple[float, float] | None,
    published: float | None,
    scale: str,
    comparable: bool,
) -> str:
    """Return the verdict on a ``published`` gain in AP points, empty without one.

    ``seeds``: those with student and baseline measured; ``interval``: of ``statistics.interval``,
    None with fewer than two seeds. The first that applies: "not run", "ran at <scale>", "not
    comparable", and what the interval says: "reproduced", "partly", "not reproduced" or
    "inconclusive".
    """
    if published is None:
        return ""
    if seeds == 0:
        return "not run"
    if scale != PAPER:
        return f"ran at {scale}"
    if not comparable:
        return "not comparable"
    if interval is None:
        return "inconclusive"
    low, high = interval
    if published == 0:
        return _of_none(low, high)
    return _of_gain(low, high, published) if published > 0 else _of_gain(-high, -low, -published)


def _of_gain(low: float, high: float, published: float) -> str:
    """``published`` is over 0; an interval holds its ends."""
    if low > 0:
        return "reproduced" if high >= published else "partly"
    return "inconclusive" if high >= published else "not reproduced"


def _of_none(low: float, high: float) -> str:
    """No gain was published."""
    if not low <= 0 <= high:
        return "not reproduced"
    narrow = low >= -WORTH_FINDING and high <= WORTH_FINDING
    return "reproduced" if narrow else "inconclusive"
