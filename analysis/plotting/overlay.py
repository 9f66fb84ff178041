"""Images in figures, with boxes and with maps laid over them, small enough to be embedded."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image

TRUTH, FOUND = "#009E73", "#D55E00"
"""Two of Okabe and Ito's colours: of boxes in the ground truth, and of those that were found."""
LONGEST = 320
"""Pixels of an embedded image's longer side; larger ones are reduced to it."""
GREY = np.array([0.299, 0.587, 0.114])
"""Weights of R, G and B in an image's luminance (ITU-R BT.601)."""


def show(axes: Axes, image: np.ndarray, grey: bool = False) -> None:
    """Draw an image (H, W, 3), 0 to 1; the axes keep its pixels as their units.

    ``grey``: by its luminance, so that the colours of what is laid over it are its own.
    """
    height, width = image.shape[:2]
    pixels = np.repeat((image @ GREY)[..., None], 3, axis=2) if grey else image
    axes.axis("off")
    axes.imshow(_reduced(pixels), extent=_extent(height, width), interpolation="none")
    axes.autoscale(False)


def outline(axes: Axes, boxes: np.ndarray, colour: str, dash: str = "-") -> None:
    """Draw boxes (n, 4), xyxy in pixels."""
    for left, top, right, bottom in boxes:
        axes.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5), right - left, bottom - top,
                fill=False, edgecolor=colour, linewidth=0.9, linestyle=dash,
            )
        )  # fmt: skip


def lay(
    axes: Axes,
    values: np.ndarray,
    low: float,
    high: float,
    stride: float | None = None,
    log: bool = False,
) -> AxesImage:
    """Lay a map (h, w) over the image in ``axes``, each cell where it lies.

    ``low`` and ``high``: the ends of the colour scale, which maps that are compared share;
    ``stride``: pixels per cell, without which the map covers the image; ``log``: whether colours
    are of the logarithm, for which both ends are positive. NaN is left transparent.
    """
    height, width = values.shape
    covered = _extent(height * stride, width * stride) if stride else axes.images[0].get_extent()
    return axes.imshow(
        values.clip(low) if log else values,
        extent=covered,
        cmap="magma_r",
        alpha=0.65,
        norm=LogNorm(low, high) if log else Normalize(low, high),
        interpolation="none",
    )


def bar(shown: AxesImage, panels: Axes | list[Axes], below: bool = False) -> Colorbar:
    """Print the scale of a map beside, or below, the panels that it holds for; return it."""
    (first, *_) = panels if isinstance(panels, list) else [panels]
    place = "bottom" if below else "right"
    scale = first.figure.colorbar(shown, ax=panels, fraction=0.04, pad=0.02, location=place)
    scale.ax.tick_params(labelsize=6)
    scale.outline.set_visible(False)  # type: ignore[operator]
    return scale


def _reduced(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) of 0 to 1 as bytes, no side longer than ``LONGEST``."""
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).round().astype(np.uint8))
    picture.thumbnail((LONGEST, LONGEST))
    return np.asarray(picture)


def _extent(height: float, width: float) -> tuple[float, float, float, float]:
    return (-0.5, width - 0.5, height - 0.5, -0.5)
