"""Gradient maps: what the runs give, as tables, and how it is drawn."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.plotting.overlay import TRUTH, bar, lay, outline, show
from analysis.plotting.style import QUIET, STYLE, WIDTH, Look

if TYPE_CHECKING:
    from analysis.figures.gradient_maps.compute import Gradients

LONGEST = 100
"""Cells of a drawn map's longer side; of a larger one, blocks of cells are averaged."""
DECADES = 3
"""What the colours span below the largest gradient."""
PAGE, MARGIN, CHARACTER = 9.5, 0.3, 0.055
"""Inches: the height of a page, what is around the panels, and a letter of a name."""
END = 0.2
"""Of a decade: a number closer to an end of the scale would stand out of it."""
FURTHEST = 30.0
"""A ratio that the axis reaches at most, and its inverse."""
SUMS = ("total", "detection", "distillation")
ROW_HEIGHT = 0.16
"""Inches."""


class Picture(NamedTuple):
    """An image that maps are laid over."""

    pixels: np.ndarray
    """(H, W, 3), 0 to 1."""
    boxes: np.ndarray
    """(G, 4), ground truth, xyxy in pixels."""


# --- Tables --------------------------------------------------------------------------------


def sums(run: str, found: Gradients) -> pd.DataFrame:
    """Return a row for each level and term of one image: sum and number of cells by region."""
    rows = []
    for term, levels in found.norms.items():
        for level, (norms, objects) in enumerate(zip(levels, found.objects, strict=True)):
            rows.append(
                {
                    "run": run,
                    "level": level,
                    "stride": found.strides[level],
                    "term": term,
                    "objects": norms[objects].sum(dtype=float),
                    "background": norms[~objects].sum(dtype=float),
                    "object_cells": objects.sum(),
                    "background_cells": (~objects).sum(),
                }
            )
    return pd.DataFrame(rows)


def means(images: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run, level and term: the mean on object and on background cells.

    Over the cells of all images, each of which gave rows of ``sums``; and their ``ratio``.
    NaN where there is no such cell, or nothing to divide by.
    """
    keys = ["run", "level", "stride", "term"]
    found = images.groupby(keys, sort=False).sum().reset_index()
    for region, cells in (("objects", "object_cells"), ("background", "background_cells")):
        found[region] /= found[cells].where(found[cells] > 0)
    ratio = found["objects"] / found["background"].where(found["background"] > 0)
    found.insert(list(found).index("background") + 1, "ratio", ratio)
    return found


def total_ratios(found: pd.DataFrame) -> str:
    """Return in words each run's ratio of the total gradient by level, of ``means``."""
    total = found[found["term"] == "total"]
    by_run = [
        f"{run} " + ", ".join("undefined" if math.isnan(r) else f"{r:.2g}" for r in rows["ratio"])
        for run, rows in total.groupby("run", sort=False)
    ]
    return "Total gradient on objects over that on background, by level: " + "; ".join(by_run) + "."


def maps(run: str, image: Any, found: Gradients) -> pd.DataFrame:
    """Return a row for each drawn cell of one image: the total gradient, and distillation's.

    ``cell``: its side in pixels, a multiple of the stride where blocks of cells are averaged.
    """
    frames = []
    for level, (total, stride) in enumerate(zip(found.norms["total"], found.strides, strict=True)):
        block = -(-max(total.shape) // LONGEST)
        drawn = _averaged(total, block)
        distilled = found.norms.get("distillation")
        rows, columns = np.indices(drawn.shape)
        frames.append(
            pd.DataFrame(
                {
                    "run": run,
                    "image": image,
                    "level": level,
                    "stride": stride,
                    "cell": stride * block,
                    "y": rows.ravel(),
                    "x": columns.ravel(),
                    "total": drawn.ravel(),
                    "distillation": _averaged(distilled[level], block).ravel()
                    if distilled
                    else np.nan,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _averaged(values: np.ndarray, block: int) -> np.ndarray:
    """Return the means of square blocks of a map (H, W); those at the end may be smaller."""
    rows, columns = (np.arange(0, side, block) for side in values.shape)
    added = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights, widths = (
        np.diff(np.append(starts, side))
        for starts, side in zip((rows, columns), values.shape, strict=True)
    )
    return added / np.outer(heights, widths)


# --- Pictures ------------------------------------------------------------------------------


def plot_maps(values: pd.DataFrame, pictures: Mapping[Any, Picture]) -> Figure:
    """Return a row for each run and image of ``maps``, a column for each level.

    The colours of a column are those of one scale, in powers of ten: ``DECADES`` below its largest
    value and less are drawn alike.
    """
    rows = list(values.groupby(["run", "image"], sort=False))
    levels = _levels(values)
    tall = max(each.pixels.shape[0] / each.pixels.shape[1] for each in pictures.values())
    side = min((WIDTH - MARGIN) / len(levels), (PAGE - 2 * MARGIN) / (len(rows) * tall))
    size = side * len(levels) + MARGIN, side * tall * len(rows) + 2 * MARGIN
    with rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
        figure = Figure(figsize=size, layout=layout)
        grid = figure.subplots(len(rows), len(levels), squeeze=False)
        for column, (level, stride) in zip(grid.T, levels, strict=True):
            high = values.loc[values["level"] == level, "total"].max()
            for axes, ((_, image), cells) in zip(column, rows, strict=True):
                shown = _panel(axes, cells[cells["level"] == level], pictures[image], high)
            column[0].set_title(_heading(level, stride), fontweight="normal", fontsize=7)
            _scale(shown, list(column), high)
        for axes, ((run, image), _) in zip(grid[:, 0], rows, strict=True):
            name = textwrap.fill(str(run), max(int(side * tall / CHARACTER), 8))
            _name(axes, f"{name}\nimage {image}" if len(pictures) > 1 else name)
        figure.supxlabel("Norm of the total gradient", fontsize=8)
    return figure


def _levels(values: pd.DataFrame) -> list[tuple[int, int]]:
    """Return each level of a table and its stride."""
    return sorted(set(zip(values["level"], values["stride"], strict=True)))


def _heading(level: int, stride: int) -> str:
    return f"level {level}\nstride {stride}"


def _panel(axes: Axes, cells: pd.DataFrame, picture: Picture, high: float) -> AxesImage:
    show(axes, picture.pixels, grey=True)
    outline(axes, picture.boxes, TRUTH)
    drawn = cells.pivot(index="y", columns="x", values="total").to_numpy()
    top = high or 1.0
    return lay(axes, drawn, top / 10**DECADES, top, stride=cells["cell"].iloc[0], log=True)


def _scale(shown: AxesImage, panels: list[Axes], high: float) -> None:
    """Print the scale of maps that end at ``high``: the powers of ten within it."""
    scale = bar(shown, panels, below=True)
    scale.minorticks_off()
    if not high:
        scale.set_ticks([])
        scale.set_label("no gradient", fontsize=6)
        return
    top = math.log10(high)
    powers = range(math.ceil(top - DECADES + END), math.floor(top - END) + 1)
    scale.set_ticks([10.0**power for power in powers])


def _name(axes: Axes, name: str) -> None:
    """Write a name upright beside a panel."""
    axes.text(
        -0.06, 0.5, name, transform=axes.transAxes,
        rotation=90, ha="right", va="center", multialignment="center", fontsize=7,
    )  # fmt: skip


def plot_means(found: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a panel for each level of ``means`` with a line for each run's terms.

    A mark is the ratio, the number beside it the mean on objects, empty where there are none.
    Without a ratio there is no mark; one beyond ``FURTHEST`` is at the edge. ``distillation`` is
    left out where it is one term alone.
    """
    levels = _levels(found)
    places = _places(found)
    end = max(places.values()) + 0.6
    with rc_context(STYLE):
        size = WIDTH, ROW_HEIGHT * (end + 0.6) + 0.8
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(levels), squeeze=False, sharex=True, sharey=True)[0]
        positive = found["ratio"][found["ratio"] > 0]
        reach = min(max([2.0, *positive, *(1 / positive)]) * 1.3, FURTHEST)
        panels[0].set(xscale="log", xlim=(1 / reach, reach), ylim=(end, -0.6))
        step = 10 if reach > 10 else 2
        panels[0].set_xticks([1 / step, 1, step], [f"{1 / step:g}", "1", f"{step}"])
        _label(panels[0], places)
        for axes, (level, stride) in zip(panels, levels, strict=True):
            axes.set_title(_heading(level, stride), fontweight="normal", fontsize=7)
            axes.axvline(1, color=QUIET, linewidth=0.8, zorder=1)
            axes.tick_params(axis="y", length=0)
            axes.minorticks_off()
            rows = found[found["level"] == level].set_index(["run", "term"])
            _ratios(axes, rows, places, looks)
        figure.supxlabel(
            "Mean gradient norm on objects / on background (number: on objects)", fontsize=8
        )
    return figure


def _places(found: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return the line of each run's terms, from the top; the run's name has one of its own."""
    places, place = {}, 0.0
    for run, rows in found.groupby("run", sort=False):
        terms = list(rows["term"].unique())
        several = sum(term not in SUMS for term in terms) > 1
        for term in ["", *(term for term in terms if several or term != "distillation")]:
            places[str(run), term] = place
            place += 1
        place += 0.3
    return places


def _label(axes: Axes, places: Mapping[tuple[str, str], float]) -> None:
    names = [term.removeprefix("loss_").replace("_", " ") or run for run, term in places]
    axes.set_yticks(list(places.values()), names)
    for text, (_, term) in zip(axes.get_yticklabels(), places, strict=True):
        text.set_fontweight("normal" if term else "bold")
        text.set_fontsize(7)


def _ratios(
    axes: Axes,
    rows: pd.DataFrame,
    places: Mapping[tuple[str, str], float],
    looks: Mapping[str, Look],
) -> None:
    by_line: dict[Any, Any] = rows[["ratio", "objects"]].to_dict("index")
    for (run, term), place in places.items():
        found = by_line.get((run, term), {})
        mean, ratio = (found.get(column, math.nan) for column in ("objects", "ratio"))
        seen = np.clip(ratio, *axes.get_xlim()) if ratio else math.nan
        axes.plot([seen], [place], markersize=4, clip_on=False, **looks[run].point)
        axes.annotate(
            "" if math.isnan(mean) else _short(mean),
            (1.02, place),
            xycoords=axes.get_yaxis_transform(),
            fontsize=6,
            color=QUIET,
            va="center",
        )


def _short(value: float) -> str:
    """Return a number with two digits and an exponent, as short as can be."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}" if value else "0"
