"""Verdicts on published numbers; docs/explanation/statistics.md explains the rules."""

from analysis.statistics.gains import Gain
from analysis.statistics.seeds import WORTH_FINDING, Interval

PAPER = "paper"
"""The scale whose conditions are the published ones."""
REPRODUCED, PARTLY = "reproduced", "partly"
NOT_REPRODUCED, INCONCLUSIVE = "not reproduced", "inconclusive"


def verdict(gain: Gain | None, published: float | None, scale: str, comparable: bool) -> str:
    """Return the verdict on a ``published`` gain in AP points, empty without one.

    ``gain``: ours, None without a seed whose student and baseline are measured. The verdict is the
    first that applies of "not run", "ran at <scale>" and "not comparable"; else the simultaneous
    interval decides: "reproduced", "partly", "not reproduced" or "inconclusive".
    """
    if published is None:
        return ""
    condition = _condition(gain is not None, scale, comparable)
    if condition or gain is None:
        return condition
    if gain.simultaneous is None:
        return INCONCLUSIVE
    low, high = gain.simultaneous
    if published == 0:
        return _verdict_on_none(low, high)
    if published > 0:
        return _verdict_on_gain(low, high, published)
    return _verdict_on_gain(-high, -low, -published)


def level_verdict(
    measured: bool, interval: Interval | None, published: float | None, scale: str, comparable: bool
) -> str:
    """Return the verdict on a ``published`` AP in points, empty without one.

    ``interval``: of our mean over seeds, None with one seed. "reproduced" if it lies within half a
    point of the published AP, "not reproduced" if it excludes the published AP otherwise, else
    "inconclusive". The conditions before it are those of ``verdict``.
    """
    if published is None:
        return ""
    condition = _condition(measured, scale, comparable)
    if condition:
        return condition
    if interval is None:
        return INCONCLUSIVE
    low, high = interval
    if low >= published - WORTH_FINDING and high <= published + WORTH_FINDING:
        return REPRODUCED
    return INCONCLUSIVE if low <= published <= high else NOT_REPRODUCED


def _condition(measured: bool, scale: str, comparable: bool) -> str:
    """Return the verdict that does not depend on our number; empty if the number decides."""
    if not measured:
        return "not run"
    if scale != PAPER:
        return f"ran at {scale}"
    return "" if comparable else "not comparable"


def _verdict_on_gain(low: float, high: float, published: float) -> str:
    """Return the verdict where ``published`` is over 0; the interval includes its ends."""
    if high < published:
        return PARTLY if low > 0 else NOT_REPRODUCED
    # An interval as wide as the published gain would reproduce nearly any gain.
    return REPRODUCED if low > 0 and high - low < published else INCONCLUSIVE


def _verdict_on_none(low: float, high: float) -> str:
    """Return the verdict where no gain was published."""
    if not low <= 0 <= high:
        return NOT_REPRODUCED
    narrow = low >= -WORTH_FINDING and high <= WORTH_FINDING
    return REPRODUCED if narrow else INCONCLUSIVE
