"""Colors of methods: each has a preferred one, and the rows of one figure get different ones."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from matplotlib.colors import to_rgb

COLORS = (
    "#0072B2", "#661144", "#D55E00", "#229966", "#664400", "#AA77FF",
    "#BB0033", "#003377", "#CC00AA", "#5500FF", "#226633", "#DD6666",
)  # fmt: skip
"""Colors of methods, with a contrast of 3:1 or more to white. The ``difference`` of any two, and of
each to the black of teachers and the gray of baselines, is 12 or more."""
PREFERRED = {
    "bckd": 3, "chen": 8, "crosskd": 4, "cwd": 7, "defeat": 5, "dicod": 1, "fgd": 6, "fgfi": 7,
    "fitnets": 11, "fkd": 6, "frs": 10, "gid": 4, "ld": 2, "mgd": 5, "mimic": 9, "pfi": 2, "pkd": 8,
    "rm": 0, "rm+pfi": 9, "soft_labels": 3, "tadf": 10,
}  # fmt: skip
"""Index in ``COLORS`` of the color that a method has in all figures where no other row has it."""
VISIONS: Mapping[str, Sequence[Sequence[float]]] = {
    "deuteranope": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "protanope": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
}
"""Linear RGB as color-blind people see it, of linear RGB (Machado et al. 2009, severity 1)."""
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
"""CIE XYZ of linear sRGB."""


def preferred(method: str) -> int:
    """Return the index of a method's preferred color; without an entry, the name's hash selects it.

    ``method`` is its name in studies, such as ``rm+pfi``.
    """
    if method in PREFERRED:
        return PREFERRED[method]
    number = int.from_bytes(hashlib.sha256(method.encode()).digest()[:8], "big")
    return number % len(COLORS)


def assign(methods: Sequence[str]) -> list[int]:
    """Return the index of a color for each row of a figure; all differ while there are enough.

    The first row that prefers a color gets it, and methods of ``PREFERRED`` are before others. The
    remaining rows get, one by one, the free color that differs most from those in use.
    """
    colors: dict[int, int] = {}
    for row in sorted(range(len(methods)), key=lambda row: methods[row] not in PREFERRED):
        if preferred(methods[row]) not in colors.values():
            colors[row] = preferred(methods[row])
    uses = Counter(colors.values())
    for row in range(len(methods)):
        if row not in colors:
            fewest = min(uses[color] for color in range(len(COLORS)))
            free = [color for color in range(len(COLORS)) if uses[color] == fewest]
            colors[row] = max(free, key=lambda color: _nearest(color, uses))
            uses[colors[row]] += 1
    return [colors[row] for row in range(len(methods))]


def _nearest(color: int, used: Counter[int]) -> float:
    """Return the difference of a color to the most similar of those in use."""
    return min(difference(COLORS[color], COLORS[other]) for other in used if used[other])


@cache
def difference(first: str, second: str) -> float:
    """Return the CIE76 difference of two colors; that of white and black is 100.

    It is the smallest of those that people with normal and with color-blind vision see.
    """
    visions = [np.eye(3), *map(np.array, VISIONS.values())]
    return min(float(np.linalg.norm(_lab(first, v) - _lab(second, v))) for v in visions)


def _lab(color: str, vision: np.ndarray) -> np.ndarray:
    """Return a color in CIE Lab, as a kind of vision sees it."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ (vision @ linear).clip(0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
