"""Names of users in pictures: plain text of limited length, in fonts that have its letters."""

import logging
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

logger = logging.getLogger(__name__)
# Fallback fonts often have no bold face; their regular one is good enough.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

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
"""Fonts that are searched for the letters that ``BASE`` lacks, where they are installed."""
LONGEST = 32
"""Letters of a name; a longer name is shortened in its middle, because names differ at their ends.
"""
ELLIPSIS = "\u2026"


@cache
def families() -> list[str]:
    """Return the installed fonts of figures, in the order in which they are searched."""
    # Few of the fonts have a bold weight, and matplotlib warns of each one that has not.
    logging.getLogger(font_manager.__name__).addFilter(_is_not_about_weight)
    installed = set(font_manager.get_font_names())
    return [BASE, *(name for name in FALLBACKS if name in installed)]


def legible(name: str, longest: int = LONGEST) -> str:
    """Return a name as figures print it: one shortened line, in letters that a font has.

    A letter that no font has is replaced by its number, such as U+6728.
    """
    line = shortened(" ".join(name.split()), longest)
    lacking = [letter for letter in line if ord(letter) not in _letters() and not letter.isspace()]
    if not lacking:
        return line
    _warn_of_missing_letters()
    numbers = "".join(f"U+{ord(letter):04X}" if letter in lacking else letter for letter in line)
    return shortened(numbers, longest)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text of limited length, with an ellipsis in the middle of a longer one."""
    if len(text) <= longest:
        return text
    end = (longest - 1) // 3
    return text[: longest - 1 - end] + ELLIPSIS + text[len(text) - end :]


def _is_not_about_weight(record: logging.LogRecord) -> bool:
    return "Failed to find font weight" not in record.getMessage()


@cache
def font_files() -> dict[str, frozenset[int]]:
    """Return the code points of the letters in each font file, in the order of ``families``."""
    paths = [font_manager.findfont(name, fallback_to_default=False) for name in families()]
    return {path: frozenset(FT2Font(path).get_charmap()) for path in paths}


@cache
def _letters() -> frozenset[int]:
    """Return the code points of all letters in the fonts of figures."""
    return frozenset().union(*font_files().values())


@cache
def _warn_of_missing_letters() -> None:
    """Log a warning, once in a process."""
    logger.warning(
        "No installed font has some letters of these names; pictures print their numbers (U+...). "
        "Install a font that has them, such as Noto Sans CJK"
    )
