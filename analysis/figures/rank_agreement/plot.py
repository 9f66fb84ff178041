"""Pictures of rank agreement: measures of all objects, and example objects."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.rank_agreement import plot_objects
from analysis.figures.rank_agreement.compute import TEACHER, ExampleObject
from analysis.plotting import style
from analysis.plotting.dots import draw_points, draw_reference, reference_handle, run_panels
from analysis.plotting.style import QUIET, STYLE, Look

PANELS = {
    "agreement": ("Final box from\nthe same prior", "share of objects"),
    "top1": ("Same prior\nranked first", "share of objects"),
    "rho": ("Ranks of\npositive priors", "Spearman's rho"),
    "kl": ("Distributions over\npositive priors", "KL (nats)"),
}
"""Title and axis label of the panel of each measure."""
MARKS = {"all": (-0.22, None), "easy": (0.03, "^"), "hard": (0.28, "v")}
"""Offset of each group of objects in its row, and its marker; None is the marker of the run."""
LINE_HEIGHT = 0.42
"""Height of a run's row, in inches."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame],
    looks: Mapping[str, Look],
    examples: Sequence[ExampleObject],
    classes: Sequence[str],
    score_name: str,
) -> dict[str, Figure]:
    """Return the pictures of the tables of ``compute_tables``, by name."""
    all_looks = {TEACHER: style.TEACHER, **looks}
    priors = tables["rank_agreement-priors"]
    return {
        "rank_agreement": plot(tables["rank_agreement"], looks),
        "rank_agreement-objects": plot_objects.plot(
            examples, priors, all_looks, classes, score_name
        ),
    }


def plot(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a panel for each measure, with a point for all objects, the easy and the hard ones.

    ``frame`` is the table of ``summary``. The dotted line is the first run's value of all objects.
    """
    run_names = list(frame["run"].unique())
    with rc_context(STYLE):
        figure, grid = run_panels(run_names, 1, len(PANELS), LINE_HEIGHT)
        for axes, (measure, (title, label)) in zip(grid.flat, PANELS.items(), strict=True):
            axes.set_title(title, loc="left", fontsize=8)
            axes.set_xlabel(label)
            for group, (offset, marker) in MARKS.items():
                lines = frame[frame["group"] == group]
                draw_points(axes, lines, measure, looks, offset, marker)
            draw_reference(axes, frame[measure].iloc[0])
            _scale(axes, measure, frame)
            if frame[measure].isna().all():
                axes.set_xticks([])
                axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", color=QUIET)
        handles = [*_handles(), reference_handle(f"{run_names[0]}, all objects")]
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False)
    return figure


def _scale(axes: Axes, measure: str, frame: pd.DataFrame) -> None:
    """Scale an axis over all values that a measure can have, or from zero if it has no largest.

    Spearman's rho is drawn from zero, unless a value or the end of an interval is negative.
    """
    lowest = frame[[measure, f"{measure}_low"]].min().min()
    if measure == "kl":
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_xlim(-1 if measure == "rho" and lowest < 0 else 0, 1)


def _handles() -> list[Line2D]:
    return [
        Line2D(
            [], [], color=QUIET, marker=marker or "o", linestyle="none", markersize=4,
            markerfacecolor="white" if marker else QUIET, label=f"{group} objects",
        )
        for group, (_, marker) in MARKS.items()
    ]  # fmt: skip
