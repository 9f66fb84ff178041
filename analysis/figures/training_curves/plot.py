"""Pictures of training curves: loss, metric and learning rate, loss terms, and their shares."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.figures.training_curves.compute import average, split_name, total_share
from analysis.plotting.panels import horizontal_grid, message_figure, panel_grid, widen
from analysis.plotting.style import STYLE, Look, legend, legend_height
from analysis.runs.titles import loss_name

COLUMNS = (4, 3)
"""Panels of terms in a row; the first number that leaves the fewest places empty."""
RATE_WIDTH = 0.55
"""Width of a panel with one learning rate, as a share of the others'."""
BAND_OPACITY = 0.2
"""Opacity of the band between the seeds."""
LOG_RATIO = 30
"""Ratio of largest to smallest value from which on an axis is logarithmic."""
TITLE_LENGTH = 26
"""Characters in a line of a panel's title."""
LEAST_SPAN = 5
"""Smallest range of an axis of AP in points, so that small differences look small."""
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
    rates, values = _lines_of(frame, "lr"), _lines_of(frame, metric)
    common = _common_rates(rates)
    rate_label = "Rate" if common is None else "All rows"
    validated = (values["term"] != "final").any()
    label = f"{metric}, {split_name(values)} (points)"
    with rc_context(STYLE):
        ratios = [1, 1, 1 if common is None else RATE_WIDTH]
        figure, (left, middle, right) = panel_grid(
            3, 3, 2.2, legend_height(looks), width_ratios=ratios
        )
        losses = _lines_of(frame, "loss")
        scale = _draw_curves(left, losses, looks, smooth, log=_spans_decades(losses))
        _set_titles(left, "Training loss", f"Sum of all terms{scale}")
        if validated:
            _draw_metric(middle, values, looks)
            _set_titles(middle, f"{metric} during training", label)
            middle.set_xlim(left.get_xlim())
        else:
            _draw_final_metric(middle, values, looks)
            middle.set_title(f"{metric} after training", loc="left")
            middle.set_xlabel(label)
        scale = _draw_learning_rates(right, rates, looks, common)
        _set_titles(right, "Learning rate", f"{rate_label}{scale}")
        legend(figure, looks)
    return figure


def plot_terms(frame: pd.DataFrame, looks: Looks, smooth: int) -> Figure:
    """Return a panel for each loss term, detection first, with a line for each row."""
    panels = [
        (loss_name(str(term)), lines)
        for kind in ("detection", "distillation")
        for term, lines in _lines_of(frame, kind).groupby("term", sort=False)
    ]
    log = all((lines["value"] > 0).all() for _, lines in panels) and any(
        _spans_decades(lines) for _, lines in panels
    )
    return _plot_grid(panels, looks, smooth, "Weighted term", log)


def plot_shares(frame: pd.DataFrame, looks: Looks, smooth: int) -> Figure:
    """Return a panel for each distillation term's share of the loss, after that of their sum."""
    shares = _lines_of(frame, "share")
    panels = [(loss_name(str(term)), lines) for term, lines in shares.groupby("term", sort=False)]
    if len(panels) > 1:
        panels.insert(0, ("All distillation terms", total_share(shares)))
    return _plot_grid(panels, looks, smooth, "Share of the loss (%)", log=False)


def _lines_of(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return frame[frame["quantity"] == quantity]


def _plot_grid(
    terms: Sequence[tuple[str, pd.DataFrame]], looks: Looks, smooth: int, label: str, log: bool
) -> Figure:
    """Return a panel for each term: all on one logarithmic scale, or each on a linear one."""
    if not terms:
        return message_figure("no distillation term")
    runs = {run for _, lines in terms for run in lines["run"]}
    terms_looks = {run: look for run, look in looks.items() if run in runs}
    with rc_context(STYLE):
        across = min(COLUMNS, key=lambda columns: -len(terms) % columns)
        figure, panels = panel_grid(
            len(terms), across, 1.15, 0.5 + legend_height(terms_looks), sharex=True, sharey=log
        )
        for number, (axes, (name, lines)) in enumerate(zip(panels, terms, strict=True)):
            scale = _draw_curves(axes, lines, looks, smooth, log)
            axes.set_title(textwrap.fill(name, TITLE_LENGTH), loc="left", fontsize=8)
            if not log:
                axes.set_ylim(bottom=0)
            axes.tick_params(labelbottom=number + across >= len(panels))
        figure.supylabel(label + scale, fontsize=8)
        figure.supxlabel("Step", fontsize=8)
        legend(figure, terms_looks)
    return figure


def _spans_decades(lines: pd.DataFrame) -> bool:
    numbers = lines["value"]
    return len(numbers) > 0 and numbers.min() > 0 and numbers.max() > LOG_RATIO * numbers.min()


def _draw_curves(
    axes: Axes, lines: pd.DataFrame, looks: Looks, smooth: int, log: bool = False
) -> str:
    """Draw each row's mean over its seeds and the band between them.

    Return the end of the axis label: empty, or that its scale is logarithmic.
    """
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
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    horizontal_grid(axes)
    return ", log scale" if log else ""


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


def _draw_final_metric(axes: Axes, lines: pd.DataFrame, looks: Looks) -> None:
    """Draw the metric of the finished runs, in a line for each row, and its range over seeds."""
    rows = [(str(run), values["value"]) for run, values in lines.groupby("run", sort=False)]
    for place, (run, values) in enumerate(rows):
        axes.hlines(place, values.min(), values.max(), color=looks[run].color, linewidth=0.9)
        axes.plot([values.mean()], [place], markersize=4.5, **looks[run].point)
    axes.set_yticks(range(len(rows)), [""] * len(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    widen(axes, "x", LEAST_SPAN)
    horizontal_grid(axes)


def _common_rates(rates: pd.DataFrame) -> pd.DataFrame | None:
    """Return the learning rates of the longest run if no other run has another rate at a step."""
    if rates.empty or rates.groupby("step")["value"].nunique().max() > 1:
        return None
    return rates.drop_duplicates("step").sort_values("step")


def _draw_learning_rates(
    axes: Axes, lines: pd.DataFrame, looks: Looks, common: pd.DataFrame | None
) -> str:
    """Draw the learning rates, or the common one in gray; return the end of the axis label."""
    log = _spans_decades(lines)
    if common is None:
        return _draw_curves(axes, lines, looks, 0, log)
    gray = {"": Look("0.2", "-", "")}
    return _draw_curves(axes, common.assign(run="", seed=0), gray, 0, log)


def _draw_line(axes: Axes, curve: pd.DataFrame, look: Look, **options: Any) -> None:
    axes.plot(
        curve["step"], curve["mean"], linewidth=1.0, marker=look.marker, **look.line, **options
    )


def _set_titles(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_ylabel(label)
    axes.set_xlabel("Step")
