"""Text of single cells: numbers, gains with their intervals, and names of metrics."""

import math
from typing import TypeGuard

from analysis.statistics.gains import Gain
from analysis.statistics.seeds import Interval

NUMBER = "{:.1f}"
STAR, IMAGES = "*", "ⁱ"
"""Marks of a significant gain, and of an interval over images."""
ABSENT = "\u2013"
MINUS = "\u2212"
GAIN_TITLE = "Gain, 95 % CI"
MODERATED_TITLE, JOINT_TITLE = "Moderated 95 % CI", "Seeds and images, 95 % CI"
"""Headings of gains with their confidence intervals."""
TITLES = {"VOC07": "mAP"}
"""Metrics that are printed by another name."""


def metric_title(metric: str) -> str:
    """Return the name of a metric in print."""
    return TITLES.get(metric, metric)


def is_number(value: float | None) -> TypeGuard[float]:
    """Return True for a number, False for None and NaN."""
    return value is not None and not math.isnan(value)


def number(value: float | None, std: float | None = None, signed: bool = False) -> str:
    """Return a value in AP points, with its standard deviation over seeds if there is one."""
    if not is_number(value):
        return ABSENT
    size = NUMBER.format(abs(value))
    # The sign is that of the printed digits: -0.04 is printed as 0.0.
    sign = "" if float(size) == 0 else MINUS if value < 0 else "+" if signed else ""
    return sign + size + (f" ± {NUMBER.format(std)}" if is_number(std) else "")


def amount(value: float | None) -> str:
    """Return hours, a rate or a size with two or three significant digits."""
    if not is_number(value) or value == 0:
        return ABSENT
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def gain_text(gain: Gain | None) -> str:
    """Return a gain with its standard deviation, its interval, and the mark of significance.

    The interval is the simultaneous one over seeds, or that over images without it.
    """
    if gain is None:
        return ABSENT
    parts = [number(gain.mean, gain.std, signed=True), interval_text(gain)]
    return " ".join(filter(None, parts)) + (STAR if gain.significant else "")


def interval_text(gain: Gain) -> str:
    """Return the 95 % interval of a gain in parentheses, marked if it is over images."""
    text = ends_text(gain.simultaneous or gain.over_images)
    return f"({text}){'' if gain.simultaneous else IMAGES}" if text else ""


def ends_text(interval: Interval | None) -> str:
    """Return the signed ends of an interval; empty without one."""
    if interval is None:
        return ""
    return " to ".join(number(end, signed=True) for end in interval)


def judgment_text(gain: Gain | None) -> str:
    """Return the judgment on a gain; empty for one of a single seed without an interval."""
    return gain.judgment if gain and (gain.simultaneous or gain.std is not None) else ""
