"""Labels in pictures: text in fonts that have its letters, drawn with Pillow."""

from functools import cache, lru_cache
from itertools import groupby
from typing import NamedTuple

from PIL import ImageDraw, ImageFont

from kd.common.lettering import font_files, legible, shortened

LONGEST_NAME = 32
"""Letters of a class name; a longer one is shortened in its middle."""


class Label(NamedTuple):
    """Text in a font size, and its width and height in pixels."""

    text: str
    font_size: int
    width: int
    height: int


@lru_cache(4096)
def fitting_label(name: str, score: str, font_size: int, most: int) -> Label | None:
    """Return a label of a class name and a score that is at most ``most`` pixels wide.

    The name is shortened, then left out, then the score is; None if nothing fits.
    """
    line = legible(name, LONGEST_NAME)
    shorter = [shortened(line, letters) for letters in range(min(len(line), LONGEST_NAME), 2, -1)]
    for text in (*(f"{one} {score}" for one in shorter), score):
        label = measured(text, font_size)
        if label.width <= most:
            return label
    return None


def measured(text: str, font_size: int) -> Label:
    """Return a text with its size in pixels."""
    margin = _margin(font_size)
    width = sum(font.getlength(part) for font, part in _parts(text, font_size))
    return Label(text, font_size, int(width) + 2 * margin + 1, _line_height(font_size) + margin)


def draw_label(
    draw: ImageDraw.ImageDraw,
    label: Label,
    place: tuple[int, int],
    fill: tuple[int, int, int],
) -> None:
    """Draw a label on a filled rectangle whose left top corner is ``place``."""
    left, top = place
    draw.rectangle((left, top, left + label.width - 1, top + label.height - 1), fill=fill)
    ink = (0, 0, 0) if _is_light(fill) else (255, 255, 255)
    x, baseline = float(left + _margin(label.font_size)), top + _base_ascent(label.font_size)
    for font, part in _parts(label.text, label.font_size):
        draw.text((x, baseline), part, fill=ink, font=font, anchor="ls")
        x += font.getlength(part)


def _parts(text: str, font_size: int) -> list[tuple[ImageFont.FreeTypeFont, str]]:
    """Return the parts of a text, each with a font that has its letters."""
    groups = groupby(text, key=_font_file)
    return [(_font(path, font_size), "".join(letters)) for path, letters in groups]


@cache
def _font_file(letter: str) -> str:
    """Return the first font that has a letter; ``legible`` has replaced letters without any."""
    files = font_files()
    return next(
        (path for path, letters in files.items() if ord(letter) in letters), next(iter(files))
    )


@cache
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _base_ascent(font_size: int) -> int:
    return _font(next(iter(font_files())), font_size).getmetrics()[0]


def _line_height(font_size: int) -> int:
    return sum(_font(next(iter(font_files())), font_size).getmetrics())


def _margin(font_size: int) -> int:
    return max(1, font_size // 6)


def _is_light(color: tuple[int, int, int]) -> bool:
    """Return True for a color on which black text has more contrast than white (BT.601)."""
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140
