"""Why a method helps or does not: what its runs left, a line per method."""

from collections.abc import Iterator

import pandas as pd

from analysis.runs.titles import method_name
from analysis.tables.formatting import ABSENT, amount, number
from docs.build.evidence import records
from docs.build.evidence.claims import ratio
from kd.config.library import Library

IOU = 0.5
"""At which errors are compared."""
ERRORS = ("Cls", "Loc", "Bkg", "Miss")
"""TIDE's main errors that cost a point or more here."""


def table(study: str, suffix: str, detector: str, terms: pd.DataFrame) -> list[dict[str, str]]:
    """Return what is known of each method of a detector: what its runs and its figures say.

    ``suffix``: of the names of the detector's figures; ``terms``: of
    ``docs.build.evidence.records``.
    """
    named = {name: _kept(study, name + suffix) for name in ("tide", "channels", "adapted", "ranks")}
    library = Library()
    of_detector = terms[(terms["detector"] == detector) & (terms["setting"] == "")]
    lines = [
        {"Row": (name := method_name(str(method), library)), **dict(_cells(name, own, named))}
        for method, own in of_detector.groupby("method", sort=False)
    ]
    known = {key for line in lines for key, cell in line.items() if cell != ABSENT}
    return [{key: cell for key, cell in line.items() if key in known} for line in lines]


def pull(terms: pd.DataFrame) -> str:
    """Return the gradient of all terms of a method at the neck beside that of detection, in the
    mean over its seeds.
    """
    return ratio(terms.groupby("seed")["gradient"].sum().mean())


def _kept(study: str, figure: str) -> pd.DataFrame | None:
    path = records.FOLDER / f"{study}-{figure}.csv"
    return records.read(path.stem) if path.exists() else None


def _cells(
    row: str, terms: pd.DataFrame, found: dict[str, pd.DataFrame | None]
) -> Iterator[tuple[str, str]]:
    of_run = terms.groupby("seed")
    yield "Share of the loss, %", amount(100 * of_run["share"].sum().mean())
    yield "Gradient", pull(terms)
    for figure, title in (("channels", "raw"), ("adapted", "adapted")):
        for region in ("objects", "background"):
            yield f"Distance, {region}, {title}, %", _distance(found[figure], row, region)
    yield "Same prior, points", _agreement(found["ranks"], row)
    for error in ERRORS:
        yield f"{error}, points", _error(found["tide"], row, error)


def _distance(means: pd.DataFrame | None, row: str, region: str) -> str:
    """Return by how many per cent a row is nearer to its teacher than its baseline, below 0, or
    farther.
    """
    if means is None or row not in set(means["run"]):
        return ABSENT
    here = means[means["region"] == region].set_index("run")["mean"]
    return number(100 * (here[row] / here["Student"] - 1), signed=True)


def _agreement(ranks: pd.DataFrame | None, row: str) -> str:
    """Return how much more often than its baseline a row makes an object's box from the same prior
    as the teacher.
    """
    if ranks is None or row not in set(ranks["run"]):
        return ABSENT
    every = ranks[ranks["group"] == "all"].set_index("run")["agreement"]
    return number(100 * (every[row] - every["Student"]), signed=True)


def _error(differences: pd.DataFrame | None, row: str, error: str) -> str:
    """Return what an error costs a row more than its baseline, with its interval over images."""
    if differences is None:
        return ABSENT
    iou = pd.to_numeric(differences["iou"], errors="coerce")
    wanted = (differences["run"] == row) & (differences["quantity"] == error) & (iou == IOU)
    for line in differences[wanted].to_dict("records"):
        found, low, high = (number(line[key], signed=True) for key in ("difference", "low", "high"))
        return f"{found} ({low} to {high})"
    return ABSENT
