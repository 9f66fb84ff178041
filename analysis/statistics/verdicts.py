"""Verdicts on published gains; docs/explanation/statistics.md explains the rule."""

from analysis.statistics.gains import Gain
from analysis.statistics.seeds import WORTH_FINDING

PAPER = "paper"
"""The scale whose conditions are the published ones."""


def verdict(gain: Gain | None, published: float | None, scale: str, comparable: bool) -> str:
    """Return the verdict on a ``published`` gain in AP points, empty without one.

    ``gain``: ours, None without a seed whose student and baseline are measured. The verdict is the
    first that applies of "not run", "ran at <scale>" and "not comparable"; else the interval over
    seeds decides: "reproduced", "partly", "not reproduced" or "inconclusive".
    """
    if published is None:
        return ""
    if gain is None:
        return "not run"
    if scale != PAPER:
        return f"ran at {scale}"
    if not comparable:
        return "not comparable"
    if gain.over_seeds is None:
        return "inconclusive"
    low, high = gain.over_seeds
    if published == 0:
        return _verdict_on_none(low, high)
    if published > 0:
        return _verdict_on_gain(low, high, published)
    return _verdict_on_gain(-high, -low, -published)


def _verdict_on_gain(low: float, high: float, published: float) -> str:
    """Return the verdict where ``published`` is over 0; the interval includes its ends."""
    if low > 0:
        return "reproduced" if high >= published else "partly"
    return "inconclusive" if high >= published else "not reproduced"


def _verdict_on_none(low: float, high: float) -> str:
    """Return the verdict where no gain was published."""
    if not low <= 0 <= high:
        return "not reproduced"
    narrow = low >= -WORTH_FINDING and high <= WORTH_FINDING
    return "reproduced" if narrow else "inconclusive"
