"""Images in figures with boxes and maps over them, small enough to be embedded."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

TRUTH_COLOR, DETECTION_COLOR, PRIOR_COLOR = "#009E73", "#D55E00", "#0072B2"
"""Colors of ground-truth boxes, of detections and of priors, all Okabe and Ito's."""
PRIOR_DASH = "--"
"""Dash of the boxes of priors."""
LONGEST_SIDE = 320
"""Pixels of an embedded image's longer side; larger images are reduced to it."""
LIGHTEST_BLACK = 0.5
"""Gray of black where an image is drawn below a map, so that the map's colors are visible."""
CASING: dict[str, Any] = {"linewidth": 1.9, "foreground": "white", "alpha": 0.75}
"""Light casing of the lines of boxes, which separates them from an image of similar color."""
OUTSIDE = 0.93
"""Gray of the part of a region outside of its image."""
LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Weights of R, G and B in an image's luminance (ITU-R BT.601)."""


def show_image(axes: Axes, image: np.ndarray, gray: bool = False) -> None:
    """Draw an image (H, W, 3), 0 to 1; the axes have its pixels as their units.

    ``gray`` draws its luminance, lightened, so that an overlay is the only color.
    """
    _show(axes, image, _extent(*image.shape[:2]), gray)


def show_region(axes: Axes, image: np.ndarray, region: np.ndarray, gray: bool = False) -> None:
    """Draw a region (4,), xyxy in pixels, of an image; the units are the pixels of the image.

    The part of the region outside of the image is light gray.
    """
    left, top, right, bottom = (int(side) for side in (*np.floor(region[:2]), *np.ceil(region[2:])))
    height, width = image.shape[:2]
    before = (max(-top, 0), max(-left, 0))
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    after = (max(bottom - max(height, top), 0), max(right - max(width, left), 0))
    margins = [*zip(before, after, strict=True), (0, 0)]
    pixels = np.pad(inside, margins, constant_values=OUTSIDE)
    _show(axes, pixels, (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5), gray)
    axes.set(xlim=region[[0, 2]] - 0.5, ylim=region[[3, 1]] - 0.5)


def _show(
    axes: Axes, image: np.ndarray, extent: tuple[float, float, float, float], gray: bool
) -> None:
    pixels = image
    if gray:
        luminance = LIGHTEST_BLACK + (1 - LIGHTEST_BLACK) * (image @ LUMINANCE)
        pixels = np.repeat(luminance[..., None], 3, axis=2)
    axes.axis("off")
    axes.imshow(_reduced(pixels), extent=extent, interpolation="none")
    axes.autoscale(False)


def draw_boxes(
    axes: Axes, boxes: np.ndarray, color: str, dash: str = "-", cased: bool = False
) -> None:
    """Draw the outlines of boxes (n, 4), xyxy in pixels; ``cased``: with a light casing."""
    for left, top, right, bottom in boxes:
        axes.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5), right - left, bottom - top,
                fill=False, edgecolor=color, linewidth=0.9, linestyle=dash,
                path_effects=[withStroke(**CASING)] if cased else None,
            )
        )  # fmt: skip


def draw_map(
    axes: Axes,
    values: np.ndarray,
    low: float,
    high: float,
    stride: float | None = None,
    log: bool = False,
) -> AxesImage:
    """Draw a map (h, w) over the image in ``axes``, each cell over its own pixels.

    ``low`` and ``high`` are the ends of the color scale, which compared maps share. ``stride`` is
    the pixels of a cell; without it the map covers the image. ``log`` colors by the logarithm, and
    both ends must then be positive. NaN is transparent.
    """
    height, width = values.shape
    extent = _extent(height * stride, width * stride) if stride else axes.images[0].get_extent()
    return axes.imshow(
        values.clip(low) if log else values,
        extent=extent,
        cmap="magma_r",
        alpha=0.65,
        norm=LogNorm(low, high) if log else Normalize(low, high),
        interpolation="none",
    )


def draw_scale(drawn_map: AxesImage, panels: Axes | list[Axes], below: bool = False) -> Colorbar:
    """Draw the color scale of a map beside, or below, the panels that share it; return it."""
    (first, *_) = panels if isinstance(panels, list) else [panels]
    place = "bottom" if below else "right"
    scale = first.figure.colorbar(drawn_map, ax=panels, fraction=0.04, pad=0.02, location=place)
    scale.ax.tick_params(labelsize=6.5)
    scale.outline.set_visible(False)  # type: ignore[operator]
    return scale


def _reduced(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) of 0 to 1 as bytes, no side longer than ``LONGEST_SIDE``."""
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).round().astype(np.uint8))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(picture)


def _extent(height: float, width: float) -> tuple[float, float, float, float]:
    return (-0.5, width - 0.5, height - 0.5, -0.5)
