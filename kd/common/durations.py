"""Durations as text."""

from itertools import pairwise


def duration(seconds: float) -> str:
    """Return a time in its two largest units: ``4 h 10 m``."""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    rest = round(seconds)
    for (unit, size), (smaller, part) in pairwise(units):
        if rest >= size:
            return f"{rest // size} {unit} {rest % size // part:02d} {smaller}"
    return f"{rest} s"
