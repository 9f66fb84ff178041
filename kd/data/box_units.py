"""Detection of boxes that are written in other units or in another order than the format has."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kd.data.scan import Record, Scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRACTION = 1.01  # rounding may put a clipped box slightly outside of the image
SMALLEST = 4  # pixels; in a smaller image, boxes of one pixel are plausible
FEWEST = 5
"""Number of boxes that must contradict the expected format; fewer may be single mistakes."""
CONTRADICTING = 0.25
AGREEING = 0.99
"""Shares of all boxes. Boxes (x1, y1, x2, y2) read as (x, y, width, height) stick out of the image
if they lie in its right or lower half, as three quarters of evenly spread boxes do. Correct boxes
rarely stick out, and almost never do all of them have a width above x and a height above y."""


class Suspects:
    """Boxes of a split as written, from which their unit and order are guessed.

    ``corners``: the format has two corners (VOC) instead of xywh (COCO).
    """

    def __init__(self, corners: bool = False) -> None:
        self.corners = corners
        self.boxes: list[list[float]] = []
        self.sizes: list[tuple[int, int]] = []

    def add(self, box: list[float], image: Record) -> None:
        """Add a box of an image record, which has ``width`` and ``height``."""
        self.boxes.append(box)
        self.sizes.append((image["width"], image["height"]))

    def report(self, scan: Scan, file: Path | str) -> None:
        """Add an error to the scan if all boxes seem to be in another unit or order."""
        if not self.boxes:
            return
        boxes, sizes = np.array(self.boxes, np.float64), np.array(self.sizes, np.float64)
        count = f"the {len(boxes)} boxes of the split"
        if suspect_fractions(boxes, sizes):
            form = "pixels [xmin, ymin, xmax, ymax]" if self.corners else "pixels [x, y, w, h]"
            scan.error(
                file,
                f"{count} have no number above 1: they look like fractions of the image; "
                f"multiply them by its width and height to write {form}",
            )
        elif self.corners and suspect_sides(boxes, sizes):
            scan.error(
                file,
                f"{count} look like [x, y, width, height], because many end before they begin; "
                "write xmax = xmin + width and ymax = ymin + height",
            )
        elif not self.corners and suspect_corners(boxes, sizes):
            scan.error(
                file,
                f"{count} look like corners [x1, y1, x2, y2], because many would stick out of "
                "their images; write 'bbox' as [x1, y1, x2 - x1, y2 - y1]",
            )


def suspect_fractions(boxes: "NDArray[np.float64]", sizes: "NDArray[np.float64]") -> bool:
    """Return True if boxes (N, 4) seem to be fractions of images of ``sizes`` (N, 2), in pixels.

    No number exceeds 1 then, and not all are whole: in pixels, each box would lie in one pixel.
    """
    if not len(boxes) or sizes.min() < SMALLEST:
        return False
    inside = (boxes > -FRACTION) & (boxes < FRACTION)
    return bool(inside.all() and (boxes % 1 != 0).any())


def suspect_corners(boxes: "NDArray[np.float64]", sizes: "NDArray[np.float64]") -> bool:
    """Return True if boxes (N, 4) that should be xywh seem to be corners (x1, y1, x2, y2).

    ``sizes`` (N, 2): width and height of their images, in pixels.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    as_corners = (high > low) & (high <= sizes + 1) & (low >= -1)
    sticking_out = np.any(low + high > sizes + 1, axis=1)
    return _suspect(np.all(as_corners, axis=1), sticking_out)


def suspect_sides(boxes: "NDArray[np.float64]", sizes: "NDArray[np.float64]") -> bool:
    """Return True if boxes (N, 4) that should be two corners seem to be xywh.

    ``sizes`` (N, 2): width and height of their images, in pixels.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    as_sides = (high > 0) & (low >= -1) & (low + high <= sizes + 2)
    return _suspect(np.all(as_sides, axis=1), np.any(high < low, axis=1))


def _suspect(agrees: "NDArray[np.bool_]", contradicts: "NDArray[np.bool_]") -> bool:
    count = int(contradicts.sum())
    enough = count >= FEWEST and count >= CONTRADICTING * len(contradicts)
    return bool(enough and agrees.mean() >= AGREEING)
