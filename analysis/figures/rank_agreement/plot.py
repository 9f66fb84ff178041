"""Pictures of rank agreement: measures of all objects, and example objects."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.rank_agreement import plot_objects
from analysis.figures.rank_agreement.compute import TEACHER, ExampleObject
from analysis.plotting import style
from analysis.plotting.dots import draw_points, draw_reference, run_panels
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
            if frame[measure].isna().all():
                axes.set_xticks([])
                axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", color=QUIET)
        # The values of the last panel, KL, are small.
        grid[0, -1].ticklabel_format(axis="x", scilimits=(-2, 3), useMathText=True)
        grid[0, -1].xaxis.get_offset_text().set_parse_math(True)
        figure.legend(handles=_handles(), loc="outside upper right", ncols=3, frameon=False)
    return figure


def _handles() -> list[Line2D]:
    return [
        Line2D(
            [], [], color=QUIET, marker=marker or "o", linestyle="none", markersize=4,
            markerfacecolor="white" if marker else QUIET, label=f"{group} objects",
        )
        for group, (_, marker) in MARKS.items()
    ]  # fmt: skip
