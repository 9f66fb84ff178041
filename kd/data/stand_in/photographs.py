"""Drawing of JPEG files that resemble photographs: smooth areas, outlines, fine texture and noise.

Their sizes in bytes are near those of COCO, so loading them takes about as long.
"""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHOTOGRAPHS = 64
"""Distinct photographs of a split. Each is the file of many images."""
OCTAVES = ((3, 45.0), (9, 25.0), (30, 12.0), (90, 8.0))
"""Cells along the longer side and amplitude, in levels of 0..255, of each layer of noise."""
SHAPES = 14
NOISE = (4.0, 9.0)  # standard deviation of the noise of single pixels, levels
QUALITY = 92


def draw_photograph(rng: np.random.Generator, width: int, height: int, gray: bool) -> bytes:
    """Return a JPEG file of ``width`` x ``height`` pixels, of one channel if ``gray``."""
    canvas = np.full((height, width, 3), rng.uniform(70, 180, 3), np.float32)
    for cells, amplitude in OCTAVES:
        canvas += np.float32(amplitude) * _noise(rng, width, height, cells)
    image = Image.fromarray(_levels(canvas))
    _draw_shapes(rng, image)
    grain = rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(*NOISE))
    image = Image.fromarray(_levels(np.asarray(image) + grain))
    stream = io.BytesIO()
    image.convert("L" if gray else "RGB").save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _noise(rng: np.random.Generator, width: int, height: int, cells: int) -> "NDArray[np.float32]":
    """Return smooth noise (H, W, 3) in one tint."""
    grid = (max(2, round(cells * height / max(width, height))), cells)
    coarse = Image.fromarray(rng.standard_normal(grid, np.float32))
    tint = rng.uniform(0.4, 1.2, 3).astype(np.float32)
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))[..., None] * tint


def _draw_shapes(rng: np.random.Generator, image: Image.Image) -> None:
    """Draw translucent polygons and ellipses, which have sharp outlines."""
    pen = ImageDraw.Draw(image, "RGBA")
    for _ in range(SHAPES):
        center, radius = rng.uniform(0, image.size), np.exp(rng.uniform(2, 5.2))
        low, high = center - radius, center + radius * rng.uniform(0.3, 1)
        fill = (*rng.integers(0, 256, 3).tolist(), int(rng.integers(90, 230)))
        if rng.random() < 0.5:
            pen.ellipse([*low.tolist(), *high.tolist()], fill)
        else:
            corners = rng.uniform(low, high, (int(rng.integers(3, 7)), 2))
            pen.polygon([(x, y) for x, y in corners.tolist()], fill)


def _levels(canvas: "NDArray[np.floating]") -> "NDArray[np.uint8]":
    return np.clip(canvas, 0, 255).astype(np.uint8)
