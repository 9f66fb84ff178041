"""Distances to the teacher by channel: what the runs give, as a table, and how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plotting.style import STYLE, WIDTH, Look

if TYPE_CHECKING:
    from analysis.figures.channel_distance.compute import Distances

REGIONS = {"objects": "Object cells", "background": "Background cells"}
"""In the order of ``Distances``, and what their panels are called."""
Order = Literal["network", "baseline", "own"]
"""Of the channels: as they are, by the baseline's distance, or each run's by its own."""
CURVES_HEIGHT, ROW_HEIGHT = 2.2, 0.17
"""Inches."""


def table(measured: Mapping[str, Distances]) -> pd.DataFrame:
    """Return a row for each run, region and channel: its ``distance``, and the region's ``cells``.

    NaN where a region has no cells.
    """
    frames = [
        pd.DataFrame(
            {
                "run": run,
                "region": region,
                "cells": found.cells[index],
                "channel": np.arange(found.mean.shape[1]),
                "distance": found.mean[index],
            }
        )
        for run, found in measured.items()
        for index, region in enumerate(REGIONS)
    ]
    return pd.concat(frames, ignore_index=True)


def means(distances: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run and region of ``table``: the mean over its channels."""
    grouped = distances.groupby(["run", "region", "cells"], sort=False)["distance"]
    return grouped.mean().rename("mean").reset_index()


def changes(averages: pd.DataFrame, reference: str) -> str:
    """Return in words how far each run's ``means`` are from those of one of them."""
    by_run: dict[Any, Any] = averages.pivot(index="run", columns="region", values="mean").to_dict(
        "index"
    )
    first = by_run[reference]
    own = " and ".join(f"{first[region]:.3g} on {region}" for region in REGIONS)
    others = [
        f"{run} " + " and ".join(_change(by_run[run][region], first[region]) for region in REGIONS)
        for run in map(str, averages["run"].unique())
        if run != reference
    ]
    listed = f"; relative to that, in the same order: {', '.join(others)}" if others else ""
    return f"Mean over the channels: {reference} {own}{listed}."


def _change(value: float, reference: float) -> str:
    return f"{value / reference - 1:+.0%}" if reference > 0 else "undefined"


def plot(
    distances: pd.DataFrame,
    looks: Mapping[str, Look],
    order: Order = "own",
    reference: str = "",
) -> Figure:
    """Return a panel of curves for each region, and below it the runs' means.

    ``distances``: as of ``table``; ``reference``: the run that ``order`` "baseline" refers to.
    """
    averages = means(distances).pivot(index="run", columns="region", values="mean")
    key = ROW_HEIGHT * (len(looks) + 1)
    with rc_context(STYLE):
        size = WIDTH, CURVES_HEIGHT + key + 0.9
        figure = Figure(figsize=size, layout="constrained")
        curves, bars = figure.subplots(
            2, 2, sharex="row", sharey="row", height_ratios=[CURVES_HEIGHT, key]
        )
        for region, upper, lower in zip(REGIONS, curves, bars, strict=True):
            shown = distances[distances["region"] == region]
            by_run = shown.pivot(index="channel", columns="run", values="distance")
            _curves(upper, _sorted(by_run, order, reference), looks)
            upper.set_title(REGIONS[region], loc="left")
            upper.set_xlabel(_axis(order, reference))
            _means(lower, averages[region], looks)
        curves[0].set_ylabel("Mean |teacher - student|")
        curves[0].set_ylim(0, _top(distances["distance"]))
        bars[0].set_xlim(0, _top(averages.max()) * 1.15)
        bars[0].set_ylim(len(looks) - 0.4, -0.6)
        bars[0].set_yticks(range(len(looks)), list(looks))
    return figure


def _sorted(by_run: pd.DataFrame, order: Order, reference: str) -> pd.DataFrame:
    """Return columns of distances with the largest first, or as they are."""
    if order == "baseline":
        return by_run.sort_values(reference, ascending=False, ignore_index=True)
    if order == "own":
        return by_run.apply(lambda column: -np.sort(-column))
    return by_run


def _axis(order: Order, reference: str) -> str:
    if order == "network":
        return "Channel"
    return "Channels by " + (
        "the run's own distance" if order == "own" else f"the distance of {reference}"
    )


def _curves(axes: Axes, by_run: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    for run, look in looks.items():
        axes.plot(np.arange(len(by_run)), by_run[run], linewidth=0.9, label=run, **look.line)
    axes.set_xlim(0, max(len(by_run) - 1, 1))
    axes.grid(axis="y", color="0.92", linewidth=0.8)


def _means(axes: Axes, averages: pd.Series, looks: Mapping[str, Look]) -> None:
    """Draw a run's mean as a line of its look from 0, which makes the panel the key as well."""
    for place, (run, look) in enumerate(looks.items()):
        value, known = averages[run], not math.isnan(averages[run])
        axes.plot([0, value], [place, place], linewidth=1.2, **look.line)
        axes.plot([value], [place], markersize=4, **look.point)
        axes.annotate(
            f"{value:#.3g}" if known else "no such cell",
            (value if known else 0, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Mean over the channels")


def _top(values: pd.Series) -> float:
    """Return where an axis from 0 ends."""
    return 1.05 * values.max() if values.max() > 0 else 1.0
