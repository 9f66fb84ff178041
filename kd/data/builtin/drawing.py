"""Drawing of a scene of the built-in data set: shapes with known outlines over clutter.

A small detector has difficulties with similar classes (5, 6, 7 sides; 5- and 6-pointed stars), with
sizes from 10 px, textured fills and backgrounds, clutter, blur, noise and occlusion.
"""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("triangle", "square", "pentagon", "hexagon", "heptagon", "star", "hexagram", "cross")
# Hue separates the families of classes, with some overlap; within a family only the form differs.
HUES = (0.0, 0.15, 0.35, 0.35, 0.35, 0.6, 0.6, 0.83)
HUE_SPREAD = 0.05  # standard deviation, of a turn
DULL, VIVID = (0.0, 0.35), (0.5, 1.0)  # saturation of backgrounds and clutter, and of objects

MOST_OBJECTS = 8
SMALLEST, LARGEST = 10.0, 100.0  # the shorter side of an outline, pixels
LARGEST_SHARE = 0.65  # of the image side
LEAST_BOX = 8  # the shorter side of an annotated box, pixels
LEAST_VISIBLE = 0.4  # of an object's area
LEAST_CONTRAST = 70.0  # between object and background color, RGB distance
TRIES = 8  # per object, to find a place
OVERSAMPLING = 4

Array = NDArray[np.floating]


@dataclass(frozen=True)
class ShapeObject:
    """One object of a scene.

    ``outline`` (V, 2): xy in pixels of the whole shape, including hidden parts.
    ``visible`` (size, size): share of each pixel that shows the object, 0..1.
    """

    label: int
    outline: list[tuple[float, float]]
    visible: Array

    def box(self) -> tuple[int, int, int, int]:
        """Return the box (xywh pixels) of the pixels that the object covers at least by half."""
        rows, columns = (np.flatnonzero((self.visible >= 0.5).any(axis)) for axis in (1, 0))
        if not len(rows):
            return 0, 0, 0, 0
        x, y = int(columns[0]), int(rows[0])
        return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def draw_scene(
    size: int, rng: np.random.Generator, empty: bool
) -> tuple[Image.Image, list[ShapeObject]]:
    """Draw a ``size`` x ``size`` RGB image and return it with its objects, back to front."""
    ground = _color(rng, rng.random(), DULL)
    canvas = _texture(rng, size, ground, amplitude=rng.uniform(5, 25))
    for _ in range(rng.integers(1, 6)):
        canvas = _blend(canvas, _clutter(rng, size), _color(rng, rng.random(), DULL))
    objects, coverages = _place_objects(
        rng, size, 0 if empty else int(rng.integers(1, MOST_OBJECTS + 1))
    )
    for shape, coverage in zip(objects, coverages, strict=True):
        color = _color_of(rng, shape.label, ground)
        fill = _texture(rng, size, color, amplitude=rng.uniform(3, 25))
        canvas = _blend(canvas, coverage, fill)
    return _photograph(rng, canvas), objects


def _place_objects(
    rng: np.random.Generator, size: int, most: int
) -> tuple[list[ShapeObject], list[Array]]:
    """Return up to ``most`` objects that do not hide each other too much, and their coverages."""
    objects: list[ShapeObject] = []
    coverages: list[Array] = []
    for _ in range(most):
        label = int(rng.integers(len(CLASSES)))
        for _ in range(TRIES):
            outline = _random_outline(rng, label, size)
            coverage = _coverage(size, outline)
            behind = [ShapeObject(o.label, o.outline, o.visible * (1 - coverage)) for o in objects]
            candidate = [*behind, ShapeObject(label, outline, coverage)]
            if all(map(_shows_enough, candidate, [*coverages, coverage])):
                objects = candidate
                coverages.append(coverage)
                break
    return objects, coverages


def _shows_enough(shape: ShapeObject, coverage: Array) -> bool:
    visible, whole = (float(part.sum(dtype=float)) for part in (shape.visible, coverage))
    return visible >= LEAST_VISIBLE * whole and min(shape.box()[2:]) >= LEAST_BOX


def _random_outline(rng: np.random.Generator, label: int, size: int) -> list[tuple[float, float]]:
    """Return the outline of one class, rotated, stretched, scaled and placed inside the image."""
    angle = math.radians(rng.uniform(-25, 25))
    stretch = math.exp(rng.uniform(-0.18, 0.18))
    largest = min(LARGEST, LARGEST_SHARE * size)
    shorter_side = math.exp(rng.uniform(math.log(SMALLEST), math.log(largest)))
    turned = [
        (
            math.cos(angle) * x * stretch - math.sin(angle) * y,
            math.sin(angle) * x * stretch + math.cos(angle) * y,
        )
        for x, y in _unit_outline(CLASSES[label])
    ]
    left, top = min(x for x, _ in turned), min(y for _, y in turned)
    width, height = max(x for x, _ in turned) - left, max(y for _, y in turned) - top
    scale = shorter_side / min(width, height)
    x0 = rng.uniform(0, size - width * scale)
    y0 = rng.uniform(0, size - height * scale)
    return [((x - left) * scale + x0, (y - top) * scale + y0) for x, y in turned]


def _unit_outline(name: str) -> list[tuple[float, float]]:
    """Return the corners of a class around the origin, beginning at the top."""
    if name == "cross":
        arm = 0.36
        corner = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
        turns = [corner, [(-y, x) for x, y in corner], [(-x, -y) for x, y in corner]]
        return [*turns[0], *turns[1], *turns[2], *[(y, -x) for x, y in corner]]
    if name == "square":
        return [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    inner = {"star": 0.45, "hexagram": 0.58}.get(name)
    points = {"triangle": 3, "pentagon": 5, "hexagon": 6, "heptagon": 7, "star": 5, "hexagram": 6}[
        name
    ]
    corners = points * 2 if inner else points
    radii = [inner if inner and i % 2 else 1.0 for i in range(corners)]
    angles = [2 * math.pi * i / corners for i in range(corners)]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


def _coverage(size: int, outline: list[tuple[float, float]]) -> Array:
    """Return the share of each pixel that a polygon covers, 0..1, by 4 x 4 oversampling."""
    fine, pen = _fine_canvas(size)
    pen.polygon([(OVERSAMPLING * x - 0.5, OVERSAMPLING * y - 0.5) for x, y in outline], fill=255)
    return _reduced(fine)


def _clutter(rng: np.random.Generator, size: int) -> Array:
    """Return the coverage of a line, an arc or a flat ellipse, which resemble no class."""
    fine, pen = _fine_canvas(size)
    x, y = rng.uniform(0, size, 2) * OVERSAMPLING
    width = int(rng.integers(2, 3 * OVERSAMPLING))
    kind = rng.integers(3)
    if kind == 0:
        pen.line([(x, y), tuple(rng.uniform(0, size, 2) * OVERSAMPLING)], fill=255, width=width)
    else:
        across = rng.uniform(0.05, 0.3) * size * OVERSAMPLING
        along = across * rng.uniform(0.25, 0.55)
        box = [x - across, y - along, x + across, y + along]
        if kind == 1:
            start = rng.uniform(0, 360)
            pen.arc(box, start, start + rng.uniform(60, 200), fill=255, width=width)
        else:
            pen.ellipse(box, fill=255)
    return _reduced(fine)


def _fine_canvas(size: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    fine = Image.new("L", (size * OVERSAMPLING, size * OVERSAMPLING))
    return fine, ImageDraw.Draw(fine)


def _reduced(fine: Image.Image) -> Array:
    return np.asarray(fine.reduce(OVERSAMPLING), np.float32) / 255


def _texture(rng: np.random.Generator, size: int, color: Array, amplitude: float) -> Array:
    """Return a (size, size, 3) surface around ``color``, RGB 0..255."""
    tint = rng.uniform(0.4, 1.0, 3)
    field = _field(rng, size)[..., None]
    return (color + amplitude * tint * field).astype(np.float32)


def _field(rng: np.random.Generator, size: int) -> Array:
    """Return a (size, size) pattern in about -1..1: plain, ramp, stripes, checks or clouds."""
    # Processors differ in the last bit of a sine. In float64, that bit does not change a pixel.
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    angle = rng.uniform(0, math.pi)
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    frequency = 2 * math.pi / rng.uniform(5, 18)
    match rng.integers(5):
        case 0:
            return np.zeros((size, size))
        case 1:
            return 2 * along / size - 1
        case 2:
            return np.sin(frequency * along)
        case 3:
            return np.sign(np.sin(frequency * along) * np.sin(frequency * across))
        case _:
            cells = int(rng.integers(3, 12))
            coarse = Image.fromarray(rng.normal(0, 0.7, (cells, cells)).astype(np.float32))
            return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def _color_of(rng: np.random.Generator, label: int, ground: Array) -> Array:
    """Return an RGB color of a class's family that stands out from the background."""
    while True:
        color = _color(rng, rng.normal(HUES[label], HUE_SPREAD), VIVID)
        if math.dist(color, ground) >= LEAST_CONTRAST:
            return color


def _color(rng: np.random.Generator, hue: float, saturation: tuple[float, float]) -> Array:
    """Return an RGB color, 0..255; ``hue`` in turns."""
    value = rng.uniform(0.35, 0.95)
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(*saturation), value))


def _blend(canvas: Array, coverage: Array, surface: Array) -> Array:
    return canvas + coverage[..., None] * (surface - canvas)


def _photograph(rng: np.random.Generator, canvas: Array) -> Image.Image:
    """Blur some images, and add noise to all."""
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
    noise = rng.normal(0, rng.uniform(1, 8), (*canvas.shape[:2], 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
