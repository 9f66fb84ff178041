"""Orderings of methods in papers, and their tests in our runs."""

from typing import Any, NamedTuple

import pandas as pd

from analysis.statistics.gains import paired_gains
from analysis.statistics.seeds import SIGNIFICANT, holm, mean_std, t_interval, t_test
from docs.build.evidence.claims import UNDECIDED
from docs.build.evidence.records import FOLDER
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.published import read_published

FILE = FOLDER / "orderings.csv"
COLUMNS = (
    *("study", "detector", "table", "better", "worse"),
    *("published_study", "published_table", "published_detector"),
    *("published_student", "published_teacher"),
)


class Ordering(NamedTuple):
    """Pair of methods, one of which has a higher published AP."""

    study: str
    detector: str
    table: str
    better: str
    worse: str
    published: float
    """The difference of their published AP, in points."""
    source: str


def read_orderings(library: Library) -> list[Ordering]:
    """Return the orderings of the file; UserError if a number is not in the published tables."""
    lines = pd.read_csv(FILE, keep_default_na=False)
    if tuple(lines.columns) != COLUMNS:
        raise UserError(f"{FILE}: its columns must be {', '.join(COLUMNS)}")
    return [_ordering(line, library) for line in lines.to_dict("records")]


def _ordering(line: dict[Any, Any], library: Library) -> Ordering:
    high, low = (_published(line, line[side], library) for side in ("better", "worse"))
    table, paper = line["published_table"], line["published_study"]
    source = f"{paper} {table}, {line['published_detector']} {line['published_student']}"
    columns = {key: line[key] for key in COLUMNS[:5]}
    return Ordering(**columns, published=high - low, source=source)


def _published(line: dict[Any, Any], method: str, library: Library) -> float:
    study = library.study(line["published_study"], str(FILE))
    for (table, _, detector, teacher, student, name, _), row in read_published(
        library, study, str(FILE)
    ).items():
        place = (table, detector, student, name)
        reference = *(line[f"published_{key}"] for key in ("table", "detector", "student")), method
        same_teacher = line["published_teacher"] in ("", teacher)
        if place == reference and same_teacher and "AP" in row.metrics:
            return row.metrics["AP"]
    raise UserError(
        f"{FILE}: {line['published_study']} has no AP of '{method}'; correct the line {line}"
    )


def compare_orderings(runs: pd.DataFrame, orderings: list[Ordering]) -> pd.DataFrame:
    """Return a line for each ordering: the paired difference over seeds, and its verdict.

    ``runs`` is the table of ``docs.build.evidence.records``. All orderings of a detector are one
    family of tests (Holm). ``holds`` is yes or reversed if the corrected p is below 0.05,
    otherwise undecided.
    """
    lines = [_compared(runs, ordering) for ordering in orderings]
    frame = pd.DataFrame(lines)
    for _, family in frame.groupby("detector"):
        frame.loc[family.index, "p_holm"] = pd.Series(
            holm([None if pd.isna(p) else p for p in family["p"]]), family.index, dtype=float
        )
    frame["holds"] = [_verdict(line) for line in frame.to_dict("records")]
    return frame


def _compared(runs: pd.DataFrame, ordering: Ordering) -> dict[str, Any]:
    inside = runs[(runs["table"] == ordering.table) & (runs["detector"] == ordering.detector)]
    points = [
        dict(zip(of["seed"], of["AP"], strict=True))
        for of in (inside[inside["method"] == name] for name in (ordering.better, ordering.worse))
    ]
    differences = paired_gains(*points)
    mean, ends = mean_std(differences), t_interval(differences) or (None, None)
    return {
        **ordering._asdict(),
        "seeds": mean.n,
        "difference": mean.mean,
        "std": mean.std,
        "low": ends[0],
        "high": ends[1],
        "p": t_test(differences),
    }


def _verdict(line: dict[Any, Any]) -> str:
    if not line["seeds"]:
        return "not run"
    if not line["p_holm"] < SIGNIFICANT:
        return UNDECIDED
    return "yes" if line["difference"] > 0 else "reversed"
