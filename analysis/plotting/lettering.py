"""User's names in figures: plain text, in a font that has its letters, as long as there is room."""

import sys
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

BASE = "DejaVu Sans"
"""matplotlib's own font: Latin, Greek, Cyrillic, Arabic, Hebrew and symbols."""
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Noto Sans SC",
    "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC", "Source Han Sans", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB",
    "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "SimHei", "Yu Gothic",
    "Malgun Gothic", "Arial Unicode MS", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai",
    "Noto Sans Bengali",     "Noto Sans Tamil", "Noto Sans Ethiopic", "Unifont",
)  # fmt: skip
"""Fonts that letters are looked for in, as far as a machine has them."""
LONGEST = 32
"""Letters of a name; a longer one has an ellipsis in its middle, since ends tell names apart."""
ELLIPSIS = "\u2026"


@cache
def families() -> list[str]:
    """Return the fonts of figures in the order in which a letter is looked for."""
    installed = set(font_manager.get_font_names())
    return [BASE, *(name for name in FALLBACKS if name in installed)]


def legible(name: str, longest: int = LONGEST) -> str:
    """Return a name as figures print it: one line, shortened, in letters that a font has.

    A letter that no font has becomes its number, such as U+6728.
    """
    line = shortened(" ".join(name.split()), longest)
    lacking = [letter for letter in line if ord(letter) not in _letters() and not letter.isspace()]
    if not lacking:
        return line
    _mention()
    numbers = "".join(f"U+{ord(each):04X}" if each in lacking else each for each in line)
    return shortened(numbers, longest)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text of limited length, with an ellipsis in the middle of a longer one."""
    if len(text) <= longest:
        return text
    end = (longest - 1) // 3
    return text[: longest - 1 - end] + ELLIPSIS + text[len(text) - end :]


@cache
def _letters() -> frozenset[int]:
    """Return the code points that the fonts of figures have."""
    paths = [font_manager.findfont(name, fallback_to_default=False) for name in families()]
    return frozenset().union(*(FT2Font(path).get_charmap() for path in paths))


@cache
def _mention() -> None:
    """Say once that letters are missing."""
    print(
        "note: no font of this machine has some letters of these names; figures print their "
        "numbers (U+...). Install one that has them, such as Noto Sans CJK",
        file=sys.stderr,
    )
