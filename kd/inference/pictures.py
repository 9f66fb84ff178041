"""Pictures of images with their detections: boxes, class names and scores, drawn with Pillow."""

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from kd.inference.detector import Image, ImageDetections
from kd.inference.labels import Label, draw_label, fitting_label

SMALLEST_SIDE = 640
"""Pixels of a picture's longer side; smaller images are enlarged by a whole factor to reach it."""
LARGEST_FACTOR = 16
SMALLEST_FONT = 13
FONT_SHARE, FONT_SHARE_OF_SHORTER = 55, 14
"""Sides of a picture over the height of its letters: longer side, and at least the shorter one."""
MOST_COVERED = 0.08
"""Share of a label's area that other labels may cover; a label without such a place is left out."""
CASING = (20, 20, 20)
COLORS = (
    (255, 112, 31), (0, 168, 255), (61, 219, 134), (255, 62, 100), (190, 120, 255), (255, 214, 0),
    (0, 212, 187), (255, 149, 200), (146, 204, 23), (72, 90, 255), (176, 122, 66), (130, 220, 255),
)  # fmt: skip
"""Colors of the first classes; others have hues that are spread by the golden ratio."""
GOLDEN_RATIO = 0.618034

Color = tuple[int, int, int]


class Rectangle(NamedTuple):
    """Corners in whole pixels of a picture; ``right`` and ``bottom`` are inside."""

    left: int
    top: int
    right: int
    bottom: int


def enlargement(width: int, height: int) -> int:
    """Return the whole factor by which a small image is enlarged, so that labels are readable."""
    return min(LARGEST_FACTOR, -(-SMALLEST_SIDE // max(width, height)))


def color_of(label: int) -> Color:
    """Return the color of a class, RGB, the same in every picture."""
    if label < len(COLORS):
        return COLORS[label]
    hue = (label - len(COLORS)) * GOLDEN_RATIO % 1
    value = (1.0, 0.8)[label % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.65, 0.9)[label // 2 % 2], value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(
    image: Image, detections: ImageDetections, classes: Sequence[str], least_score: float
) -> PillowImage.Image:
    """Return a picture of an image with the detections that score at least ``least_score``.

    Small images are enlarged. Better detections are drawn over others and get the better places for
    their labels; a label that would cover others is left out.
    """
    height, width = image.shape[:2]
    factor = enlargement(width, height)
    picture = PillowImage.fromarray(image)
    if factor > 1:
        size = width * factor, height * factor
        picture = picture.resize(size, PillowImage.Resampling.BICUBIC)
    indices = np.flatnonzero(detections.scores >= least_score)
    boxes = [_rectangle(box, factor, picture.size) for box in detections.boxes[indices]]
    labels = detections.labels[indices].tolist()
    scores = [f"{score:.2f}" for score in detections.scores[indices].tolist()]
    font_size = _font_size(*picture.size)
    canvas = ImageDraw.Draw(picture)
    for box, label in reversed(list(zip(boxes, labels, strict=True))):
        _draw_box(canvas, box, color_of(label), max(2, font_size // 7))
    occupied = np.zeros((0, 4))
    placed: list[tuple[Label, tuple[int, int], Color]] = []
    for box, label, score in zip(boxes, labels, scores, strict=True):
        text = fitting_label(classes[label], score, font_size, picture.width)
        place = _place(box, text, picture.size, occupied) if text else None
        if text and place:
            placed.append((text, place, color_of(label)))
            area = (*place, place[0] + text.width, place[1] + text.height)
            occupied = np.vstack([occupied, area])
    for text, place, color in reversed(placed):
        draw_label(canvas, text, place, color)
    return picture


def _font_size(width: int, height: int) -> int:
    longer, shorter = max(width, height), min(width, height)
    return max(SMALLEST_FONT, min(longer // FONT_SHARE, shorter // FONT_SHARE_OF_SHORTER))


def _rectangle(box: np.ndarray, factor: int, size: tuple[int, int]) -> Rectangle:
    """Return a box (4,), xyxy in pixels of the image, in whole pixels of a picture of ``size``."""
    limits = np.array([*size, *size]) - 1
    left, top, right, bottom = np.clip(np.round(box * factor), 0, limits).astype(int).tolist()
    return Rectangle(left, top, max(left, right), max(top, bottom))


def _draw_box(canvas: ImageDraw.ImageDraw, box: Rectangle, color: Color, width: int) -> None:
    """Draw the outline of a box, with a dark casing on both sides."""
    left, top, right, bottom = box
    canvas.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=CASING, width=width + 2)
    canvas.rectangle(box, outline=color, width=width)


def _place(
    box: Rectangle, label: Label, size: tuple[int, int], occupied: np.ndarray
) -> tuple[int, int] | None:
    """Return the place of a label's left top corner that covers other labels least.

    Places: above the box, inside it, below it, and at its right end. None if all cover too much.
    """
    rights = [box.left, box.right + 1 - label.width]
    tops = [
        box.top - label.height,
        box.top,
        box.bottom + 1,
        box.bottom + 1 - label.height,
    ]
    places = [(left, top) for left in rights for top in tops]
    fitted = list(dict.fromkeys(_inside(place, label, size) for place in places))
    covered = [_covered(place, label, occupied) for place in fitted]
    best = int(np.argmin(covered))
    return fitted[best] if covered[best] <= MOST_COVERED else None


def _inside(place: tuple[int, int], label: Label, size: tuple[int, int]) -> tuple[int, int]:
    """Return the nearest place at which a label is inside the picture."""
    left = max(0, min(place[0], size[0] - label.width))
    return left, max(0, min(place[1], size[1] - label.height))


def _covered(place: tuple[int, int], label: Label, occupied: np.ndarray) -> float:
    """Return the area that a label would share with others (N, 4), xyxy, over its own."""
    ends = place[0] + label.width, place[1] + label.height
    low, high = np.maximum(occupied[:, :2], place), np.minimum(occupied[:, 2:], ends)
    return float((high - low).clip(0).prod(axis=1).sum() / (label.width * label.height))
