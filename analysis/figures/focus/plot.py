"""The figure of where a method looks: maps over the image, boxes, and crops."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.focus.compute import View, view
from analysis.plotting.overlay import FOUND, TRUTH, bar, lay, outline, show
from analysis.plotting.style import STYLE
from kd.common.errors import UserError
from kd.common.files import replacing
from kd.config.compose import WEIGHTS
from kd.config.plan import Plan
from kd.config.run import Run

ACROSS = 4
"""Panels in a row."""
PANEL = 2.1
"""Inches."""
CROPS_SHOWN, BOXES_SHOWN = 16, 60


def draw(plan: Plan, folder: Path, image: int) -> None:
    """Write ``<method>.png`` for the first finished run of each method of a plan."""
    runs: dict[str, Run] = {}
    for run in plan.runs.values():
        if run.method and (run.directory / WEIGHTS).exists():
            runs.setdefault(run.method, run)
    if not runs:
        raise UserError("no distilled run of the study has been trained yet")
    for method, run in runs.items():
        save(plot(view(run.directory, image), f"{method} on {run.model}"), folder / f"{method}.png")
        print(folder / f"{method}.png", flush=True)


def plot(seen: View, title: str) -> Figure:
    """Return a panel for the image with its objects, and one for everything in ``seen.found``."""
    panels: list[tuple[str, Callable[[Axes], None]]] = [("ground truth", lambda axes: None)]
    for term, focus in seen.found.items():
        prefix = f"{term}: " if len(seen.found) > 1 else ""
        for name, values in focus.maps.items():
            panels.append((prefix + name, _map(values.cpu().numpy())))
        for name, values in focus.boxes.items():
            panels.append((prefix + name, _boxes(values.cpu().numpy())))
        for name, values in focus.crops.items():
            panels.append((prefix + name, _crops(values.cpu().numpy(), seen)))
    across = min(ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    with rc_context(STYLE):
        tall = 0.8 * PANEL * seen.image.shape[0] / seen.image.shape[1] + 0.3
        figure = Figure(figsize=(PANEL * across, tall * down + 0.4), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, (name, draw) in zip(grid.flat, panels, strict=False):
            show(axes, seen.image)
            outline(axes, seen.boxes, TRUTH)
            draw(axes)
            axes.set_title(name, fontsize=8, fontweight="normal")
        figure.suptitle(title, fontsize=9, fontweight="bold")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})


def _map(values: np.ndarray) -> Callable[[Axes], None]:
    """Lay a map (h, w) over the padded image, each cell where it lies; the scale is printed."""

    def draw(axes: Axes) -> None:
        shown = lay(axes, values, low=min(values.min(), 0), high=values.max() or 1)
        bar(shown, axes)

    return draw


def _boxes(boxes: np.ndarray) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        outline(axes, boxes[:BOXES_SHOWN], FOUND)

    return draw


def _crops(crops: np.ndarray, seen: View) -> Callable[[Axes], None]:
    """Show crops (n, 3, s, s) as a square of pictures in place of the image."""

    def draw(axes: Axes) -> None:
        axes.clear()
        axes.axis("off")
        if len(crops):
            axes.imshow(_mosaic(crops[:CROPS_SHOWN], seen))

    return draw


def _mosaic(crops: np.ndarray, seen: View) -> np.ndarray:
    """Return crops (n, 3, s, s) as one picture (H, W, 3), row by row."""
    pixels = crops * seen.std[:, None, None] + seen.mean[:, None, None]
    pictures = (pixels / 255).clip(0, 1).transpose(0, 2, 3, 1)
    across = math.ceil(math.sqrt(len(pictures)))
    down = math.ceil(len(pictures) / across)
    side = pictures.shape[1] + 2
    sheet = np.ones((down * side, across * side, 3))
    for index, picture in enumerate(pictures):
        top, left = index // across * side, index % across * side
        sheet[top : top + side - 2, left : left + side - 2] = picture
    return sheet
