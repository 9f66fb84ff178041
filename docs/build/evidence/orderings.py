"""Orders of methods in papers, the conditions they were published for, and their tests here."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import pandas as pd
from scipy import special

from analysis.runs.titles import backbone_name, method_name, teacher_name
from analysis.statistics.dunnett import p_single
from analysis.statistics.equivalence import UNDETERMINED
from analysis.statistics.gains import paired_gains
from analysis.statistics.moderated import moderated_errors
from analysis.statistics.pooled import CONFIDENCE, fit
from analysis.statistics.seeds import SIGNIFICANT, holm, mean_std
from docs.build.evidence.records import FOLDER
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, Row
from kd.config.published import Line, read_published

FILE = FOLDER / "orderings.csv"
COLUMNS = (
    *("study", "detector", "table", "better", "worse"),
    *("published_study", "published_table", "published_detector"),
    *("published_student", "published_teacher"),
)
HOLDS, REVERSED, NOT_RUN = "yes", "reversed", "not run"
"""Outcomes of an order, beside "undetermined"."""
NOT_STATED = "not stated"
"""Teacher of a published number whose source does not name it."""
Points = Mapping[str, Mapping[int, float]]
"""AP points by row and seed."""


class Condition(NamedTuple):
    """Names of the parts that a number was published or measured for."""

    detector: str
    teacher: str
    student: str


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
    published_for: tuple[Condition, Condition]
    """Detector, teacher and student of the published numbers, the better one first."""


class _Side(NamedTuple):
    ap: float
    condition: Condition


def read_orderings(library: Library) -> list[Ordering]:
    """Return the orderings of the file; UserError if a number is not in the published tables."""
    lines = pd.read_csv(FILE, keep_default_na=False)
    if tuple(lines.columns) != COLUMNS:
        raise UserError(f"{FILE}: its columns must be {', '.join(COLUMNS)}")
    return [_ordering(line, library) for line in lines.to_dict("records")]


def _ordering(line: dict[Any, Any], library: Library) -> Ordering:
    high, low = (_published(line, line[side], library) for side in ("better", "worse"))
    columns = {key: line[key] for key in COLUMNS[:5]}
    return Ordering(
        **columns,
        published=high.ap - low.ap,
        source=f"{line['published_study']} {line['published_table']}",
        published_for=(high.condition, low.condition),
    )


def _published(line: dict[Any, Any], method: str, library: Library) -> _Side:
    study = library.study(line["published_study"], str(FILE))
    for (table, _, detector, teacher, student, name, _), row in read_published(
        library, study, str(FILE)
    ).items():
        place = (table, detector, student, name)
        reference = *(line[f"published_{key}"] for key in ("table", "detector", "student")), method
        same_teacher = line["published_teacher"] in ("", teacher)
        if place == reference and same_teacher and "AP" in row.metrics:
            return _Side(row.metrics["AP"], Condition(detector, _teacher(teacher, row), student))
    raise UserError(
        f"{FILE}: {line['published_study']} has no AP of '{method}'; correct the line {line}"
    )


def _teacher(name: str, row: Line) -> str:
    return NOT_STATED if f"teacher {NOT_STATED}" in row.differs else name


# --- Conditions ------------------------------------------------------------------------------


def measured_rows(ordering: Ordering, plan: Plan) -> tuple[Row, Row]:
    """Return the planned rows of both methods, the better one first."""
    rows = {
        row.method: row
        for row in plan.rows
        if (row.table, row.detector) == (ordering.table, ordering.detector) and not row.setting
    }
    return rows[ordering.better], rows[ordering.worse]


def is_alike(ordering: Ordering, plan: Plan) -> bool:
    """Return True if both methods were published for the detector, pair and teacher of the study.

    The study's names count, not the smaller networks that its scale trains in their place.
    """
    measured = measured_rows(ordering, plan)
    return all(
        condition == Condition(row.detector, row.teacher, row.student)
        for condition, row in zip(ordering.published_for, measured, strict=True)
    )


def published_text(ordering: Ordering, plan: Plan, library: Library) -> str:
    """Return the detector, the teachers and the student of the published numbers."""
    measured = measured_rows(ordering, plan)
    teachers = [
        _teacher_text(condition.teacher, bool(row.classifier), library)
        for condition, row in zip(ordering.published_for, measured, strict=True)
    ]
    detector, _, student = ordering.published_for[0]
    return _text(detector, _both_teachers(teachers, measured, library), student, library)


def measured_text(ordering: Ordering, plan: Plan, library: Library) -> str:
    """Return the detector, the teachers and the student that were trained here."""
    measured = measured_rows(ordering, plan)
    teachers = [teacher_name(row, library, plan.scale) or "none" for row in measured]
    student = measured[0].student
    student = plan.scale.backbones.get(student, student)
    return _text(ordering.detector, _both_teachers(teachers, measured, library), student, library)


def _teacher_text(name: str, is_classifier: bool, library: Library) -> str:
    if name in ("", NOT_STATED):
        return name or "none"
    if is_classifier:
        return f"classifier {library.classifier(name, str(FILE)).title}"
    return backbone_name(name, library)


def _both_teachers(teachers: Sequence[str], rows: Sequence[Row], library: Library) -> str:
    """Return the teacher of both rows, or those of each row by its name."""
    if len({*teachers}) == 1:
        return teachers[0]
    pairs = zip(teachers, rows, strict=True)
    return ", ".join(f"{name} ({method_name(row.method, library)})" for name, row in pairs)


def _text(detector: str, teacher: str, student: str, library: Library) -> str:
    title = library.detector(detector, str(FILE)).title
    names = f"teacher {teacher}, " if teacher == NOT_STATED else f"{teacher} \u2192 "
    return f"{title}: {names}{backbone_name(student, library)}"


# --- Tests -----------------------------------------------------------------------------------


class Contrast(NamedTuple):
    """The difference of two rows in AP points, and its test."""

    mean: float
    low: float
    high: float
    """Ends of the 95 % interval of this difference alone."""
    p: float


def compare_orderings(runs: pd.DataFrame, orderings: list[Ordering]) -> pd.DataFrame:
    """Return a line for each ordering: the paired difference over seeds, and its outcome.

    ``runs`` is the table of ``docs.build.evidence.records``. All rows of a table give the error of
    a difference (``contrast``). All orderings of a detector are one family: p is corrected with
    Holm's method, which is valid for dependent differences of any rows; Dunnett's is for gains over
    one baseline. ``holds`` is yes or reversed if the corrected p is below 0.05, otherwise
    undetermined.
    """
    points = cache(lambda table, detector: _points(runs, table, detector))
    lines = [
        _compared(points(ordering.table, ordering.detector), ordering) for ordering in orderings
    ]
    frame = pd.DataFrame(lines)
    for _, family in frame.groupby("detector"):
        frame.loc[family.index, "p_holm"] = pd.Series(
            holm([None if pd.isna(p) else p for p in family["p"]]), family.index, dtype=float
        )
    frame["holds"] = [_outcome(line) for line in frame.to_dict("records")]
    return frame


def _points(runs: pd.DataFrame, table: str, detector: str) -> Points:
    """Return the rows of a table that share seeds: all but the teacher."""
    inside = runs[
        (runs["table"] == table) & (runs["detector"] == detector) & (runs["method"] != "teacher")
    ]
    names = inside["method"] + inside["setting"].map(lambda text: f" {text}" if text else "")
    return {
        str(name): dict(zip(row["seed"], row["AP"], strict=True))
        for name, row in inside.groupby(names, sort=False)
    }


def _compared(points: Points, ordering: Ordering) -> dict[str, Any]:
    better, worse = (points.get(name, {}) for name in (ordering.better, ordering.worse))
    mean, std, seeds = mean_std(paired_gains(better, worse))
    tested = contrast(points, ordering.better, ordering.worse) if seeds else None
    return {
        **ordering._asdict(),
        "seeds": seeds,
        "std": std,
        **(tested._asdict() if tested else {"mean": mean, "low": None, "high": None, "p": None}),
    }


def contrast(points: Points, better: str, worse: str) -> Contrast | None:
    """Return the difference of two rows of a cell; None without a degree of freedom.

    It has the largest of its standard errors, and the fewest of their degrees of freedom: that of
    one residual variance for all rows, and those of a moderated variance of this difference among
    the differences of all rows from either one. The latter are right where variances differ. p is
    the largest one.
    """
    forward, backward = _errors(points, better, worse), _errors(points, worse, better)
    if not forward or not backward:
        return None
    mean, *_ = forward[0]
    errors, freedom = ([test[place] for test in (*forward, *backward)] for place in (1, 2))
    if not min(errors):
        return None
    reach = float(special.stdtrit(min(freedom), (1 + CONFIDENCE) / 2)) * max(errors)
    p = max(p_single(mean / error, df) for error, df in zip(errors, freedom, strict=True))
    return Contrast(mean, mean - reach, mean + reach, p)


def _errors(points: Points, row: str, baseline: str) -> list[tuple[float, float, float]]:
    """Return the difference of two rows, its standard error and degrees of freedom, by two models.

    The models are the pooled and the moderated one of ``analysis.statistics``.
    """
    model = fit(points[baseline], {name: of for name, of in points.items() if name != baseline})
    if model is None or row not in model.design.methods:
        return []
    place = model.design.methods.index(row)
    mean = float(model.gains[place])
    moderated, df = moderated_errors(model.design, model.residuals)
    return [
        (mean, float(model.standard_errors[place]), float(model.df)),
        (mean, float(moderated[place]), float(df[place])),
    ]


def _outcome(line: dict[Any, Any]) -> str:
    if not line["seeds"]:
        return NOT_RUN
    if not line["p_holm"] < SIGNIFICANT:
        return UNDETERMINED
    return HOLDS if line["mean"] > 0 else REVERSED
