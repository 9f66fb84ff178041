"""Table of possible causes of gains: distances, gradients and errors of each method's runs."""

from collections.abc import Iterator

import pandas as pd

from analysis.runs.titles import method_name
from analysis.tables.formatting import ABSENT, amount, number
from docs.build.evidence import records
from docs.build.evidence.claims import ratio
from kd.config.library import Library

IOU = 0.5
"""IoU threshold at which errors are compared."""
TIDE_ERRORS = ("Cls", "Loc", "Bkg", "Miss")
"""TIDE's main errors that cost a point or more here."""


def table(study: str, suffix: str, detector: str, terms: pd.DataFrame) -> list[dict[str, str]]:
    """Return a line for each method of a detector, from its runs and its figures.

    ``suffix`` is the end of the names of the detector's figures. ``terms`` is the table of
    ``docs.build.evidence.records``.
    """
    figures = {
        name: _figure_data(study, name + suffix)
        for name in ("tide", "channels", "adapted", "ranks")
    }
    library = Library()
    of_detector = terms[(terms["detector"] == detector) & (terms["setting"] == "")]
    lines = [
        {
            "Row": (name := method_name(str(method), library)),
            **dict(_cells(name, terms_of_method, figures)),
        }
        for method, terms_of_method in of_detector.groupby("method", sort=False)
    ]
    defined = {key for line in lines for key, cell in line.items() if cell != ABSENT}
    return [{key: cell for key, cell in line.items() if key in defined} for line in lines]


def gradient_ratio(terms: pd.DataFrame) -> str:
    """Return the mean ratio of all terms' gradient on the neck to that of detection, over seeds."""
    return ratio(terms.groupby("seed")["gradient"].sum().mean())


def _figure_data(study: str, figure: str) -> pd.DataFrame | None:
    path = records.FOLDER / f"{study}-{figure}.csv"
    return records.read(path.stem) if path.exists() else None


def _cells(
    row: str, terms: pd.DataFrame, figures: dict[str, pd.DataFrame | None]
) -> Iterator[tuple[str, str]]:
    by_seed = terms.groupby("seed")
    yield "Share of the loss, %", amount(100 * by_seed["share"].sum().mean())
    yield "Gradient", gradient_ratio(terms)
    for figure, title in (("channels", "raw"), ("adapted", "adapted")):
        for region in ("objects", "background"):
            yield f"Distance, {region}, {title}, %", _distance(figures[figure], row, region)
    yield "Same prior, points", _agreement(figures["ranks"], row)
    for error in TIDE_ERRORS:
        yield f"{error}, points", _error(figures["tide"], row, error)


def _distance(means: pd.DataFrame | None, row: str, region: str) -> str:
    """Return a row's distance to the teacher relative to that of the baseline, in per cent."""
    if means is None or row not in set(means["run"]):
        return ABSENT
    values = means[means["region"] == region].set_index("run")["mean"]
    return number(100 * (values[row] / values["Student"] - 1), signed=True)


def _agreement(ranks: pd.DataFrame | None, row: str) -> str:
    """Return the share of boxes from the teacher's prior less that of the baseline, in points."""
    if ranks is None or row not in set(ranks["run"]):
        return ABSENT
    values = ranks[ranks["group"] == "all"].set_index("run")["agreement"]
    return number(100 * (values[row] - values["Student"]), signed=True)


def _error(differences: pd.DataFrame | None, row: str, error: str) -> str:
    """Return the cost of an error less that of the baseline, with its interval over images."""
    if differences is None:
        return ABSENT
    iou = pd.to_numeric(differences["iou"], errors="coerce")
    rows = (differences["run"] == row) & (differences["quantity"] == error) & (iou == IOU)
    for line in differences[rows].to_dict("records"):
        difference, low, high = (
            number(line[key], signed=True) for key in ("difference", "low", "high")
        )
        return f"{difference} ({low} to {high})"
    return ABSENT
