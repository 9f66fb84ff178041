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


def conditions(published: float) -> dict[str, str]:
    """Return each verdict on a ``published`` gain with its condition on our interval, from l to h.

    An interval that meets no condition is inconclusive. The conditions are those of ``verdict``.
    """
    half = f"{WORTH_FINDING:g}"
    if published == 0:
        return {REPRODUCED: f"-{half} ≤ l ≤ 0 ≤ h ≤ {half}", NOT_REPRODUCED: "l > 0 or h < 0"}
    gain = f"{abs(published):.2f}".rstrip("0").rstrip(".")
    if published > 0:
        helps, fails, as_large, smaller = "l > 0", "l ≤ 0", f"h ≥ {gain}", f"h < {gain}"
    else:
        helps, fails, as_large, smaller = "h < 0", "h ≥ 0", f"l ≤ -{gain}", f"l > -{gain}"
    return {
        REPRODUCED: f"{helps}, {as_large}, h - l < {gain}",
        PARTLY: f"{helps}, {smaller}",
        NOT_REPRODUCED: f"{fails}, {smaller}",
    }


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
