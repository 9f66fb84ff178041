"""Pictures of training curves: loss, metric and learning rate, loss terms, and their shares."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.figures.training_curves.compute import average, total_share
from analysis.plotting.panels import horizontal_grid, message_figure, panel_grid
from analysis.plotting.style import QUIET, STYLE, Look, legend, legend_height

COLUMNS = 4
"""Panels of terms in a row."""
BAND_OPACITY = 0.2
"""Opacity of the band between the seeds."""
LOG_RATIO = 30
"""Ratio of largest to smallest value from which on an axis is logarithmic."""
MARKERS = 5
"""Approximate number of markers on a line."""

Looks = Mapping[str, Look]


def plot_figures(
    tables: Mapping[str, pd.DataFrame], looks: Looks, metric: str, smooth: int
) -> dict[str, Figure]:
    """Return the pictures of the tables of ``compute_tables``, by name."""
    frame = tables["training_curves"]
    return {
        "training_curves": plot(frame, looks, metric, smooth),
        "training_curves-terms": plot_terms(frame, looks, smooth),
        "training_curves-shares": plot_shares(frame, looks, smooth),
    }


def plot(frame: pd.DataFrame, looks: Looks, metric: str, smooth: int) -> Figure:
    """Return panels of loss, metric and learning rate over the steps, with a line for each row."""
    with rc_context(STYLE):
        figure, (left, middle, right) = panel_grid(3, 3, 2.2, legend_height(looks), sharex=True)
        _draw_curves(left, _lines_of(frame, "loss"), looks, smooth)
        _set_titles(left, "Training loss", "Loss (sum of its terms)")
        _draw_metric(middle, _lines_of(frame, metric), looks)
        _set_titles(middle, f"{metric} on the test split", f"{metric} (points)")
        _draw_learning_rates(right, _lines_of(frame, "lr"), looks)
        _set_titles(right, "Learning rate", "Learning rate")
        legend(figure, looks)
    return figure


def plot_terms(frame: pd.DataFrame, looks: Looks, smooth: int) -> Figure:
    """Return a panel for each loss term, detection first, with a line for each row."""
    panels = [
        (str(term), lines)
        for kind in ("detection", "distillation")
        for term, lines in _lines_of(frame, kind).groupby("term", sort=False)
    ]
    return _plot_grid(panels, looks, smooth, "Weighted term")


def plot_shares(frame: pd.DataFrame, looks: Looks, smooth: int) -> Figure:
    """Return a panel for each distillation term's share of the loss, after that of their sum."""
    shares = _lines_of(frame, "share")
    panels = [(str(term), lines) for term, lines in shares.groupby("term", sort=False)]
    if len(panels) > 1:
        panels.insert(0, ("all distillation terms", total_share(shares)))
    return _plot_grid(panels, looks, smooth, "Share of the loss (%)")


def _lines_of(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return frame[frame["quantity"] == quantity]


def _plot_grid(
    terms: Sequence[tuple[str, pd.DataFrame]], looks: Looks, smooth: int, label: str
) -> Figure:
    if not terms:
        return message_figure("no distillation term")
    runs = {run for _, lines in terms for run in lines["run"]}
    terms_looks = {run: look for run, look in looks.items() if run in runs}
    with rc_context(STYLE):
        figure, panels = panel_grid(
            len(terms), COLUMNS, 1.15, 0.5 + legend_height(terms_looks), sharex=True
        )
        across = min(len(panels), COLUMNS)
        for number, (axes, (name, lines)) in enumerate(zip(panels, terms, strict=True)):
            _draw_curves(axes, lines, looks, smooth)
            axes.set_title(name, loc="left", fontsize=8)
            axes.tick_params(labelbottom=number + across >= len(panels))
        figure.supylabel(label, fontsize=8)
        figure.supxlabel("Step", fontsize=8)
        legend(figure, terms_looks)
    return figure


def _draw_curves(axes: Axes, lines: pd.DataFrame, looks: Looks, smooth: int) -> None:
    """Draw each row's mean over its seeds and the band between them."""
    rows = lines["run"].nunique()
    for place, (run, values) in enumerate(lines.groupby("run", sort=False)):
        look, curve = looks[str(run)], average(values, smooth)
        # Each row has its markers at other steps, so that none covers another.
        distance = max(len(curve) // MARKERS, 1)
        every = (place * distance // max(rows, 1), distance)
        _draw_line(axes, curve, look, label=run, markersize=2.5, markevery=every)
        if values["seed"].nunique() > 1:
            axes.fill_between(
                curve["step"], curve["low"], curve["high"],
                color=look.color, alpha=BAND_OPACITY, linewidth=0,
            )  # fmt: skip
    numbers = lines["value"]
    if len(numbers) and numbers.min() > 0 and numbers.max() > LOG_RATIO * numbers.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    horizontal_grid(axes)


def _draw_metric(axes: Axes, lines: pd.DataFrame, looks: Looks) -> None:
    """Draw a hollow marker for each measured epoch, so that equal values are all visible."""
    for run, values in lines.groupby("run", sort=False):
        curve = average(values, 0)
        _draw_line(axes, curve, looks[str(run)], label=run, markersize=4.5, markerfacecolor="none")
        reach = (curve["mean"] - curve["low"], curve["high"] - curve["mean"])
        if values["seed"].nunique() > 1:
            axes.errorbar(
                curve["step"], curve["mean"], yerr=reach, linestyle="none", capsize=2,
                color=looks[str(run)].color, elinewidth=0.8,
            )  # fmt: skip
    horizontal_grid(axes)


def _draw_learning_rates(axes: Axes, lines: pd.DataFrame, looks: Looks) -> None:
    """Draw the learning rates; if all runs have the same one, draw it once in gray."""
    lengths = lines.groupby("run")["step"].max()
    several = lines["run"].nunique() > 1
    if not several or (
        lengths.nunique() == 1 and lines.groupby("step")["value"].nunique().max() == 1
    ):
        name = "all runs" if several else ""
        axes.text(0.98, 0.95, name, ha="right", transform=axes.transAxes, color=QUIET)
        _draw_curves(axes, lines.assign(run=name), {name: Look("0.2", "-", "")}, 0)
    else:
        _draw_curves(axes, lines, looks, 0)


def _draw_line(axes: Axes, curve: pd.DataFrame, look: Look, **options: Any) -> None:
    axes.plot(
        curve["step"], curve["mean"], linewidth=1.0, marker=look.marker, **look.line, **options
    )


def _set_titles(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_ylabel(label)
    axes.set_xlabel("Step")
