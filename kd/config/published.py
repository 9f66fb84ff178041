"""Published numbers: ``configs/published/*.csv``, with one row of a paper's table per line."""

import csv
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from kd.common.errors import UserError, suggest
from kd.config.library import Library
from kd.config.study_parts import Study
from kd.config.terms import method_names

ROW_KEY = ("table", "schedule", "detector", "teacher", "student", "method", "setting")
"""Columns that identify a row."""
METRICS = ("AP", "AP50", "AP75", "APS", "APM", "APL", "VOC07")
"""Columns of numbers, in AP points."""
TEXTS = ("source", "framework", "differs", "note")
"""Columns of text, which may be empty."""
COLUMNS = ("table", "dataset", *ROW_KEY[1:], *METRICS, *TEXTS)
"""Columns that every file has."""
SOURCE_STUDENT = "source_student"
"""Column that a file may lack: the student alone of a number that the table quotes."""
UNKNOWN = "unknown"
"""Its text for a quoted number whose source was not found."""


class Line(NamedTuple):
    """Published numbers of a row."""

    metrics: Mapping[str, float] = MappingProxyType({})
    """AP points by column of ``METRICS``, without empty cells."""
    source: str = ""
    differs: str = ""
    """Reason why the conditions differ from ours even at paper scale; empty if they do not."""
    note: str = ""
    """Origin of the number, if not the source itself."""
    dataset: str = ""
    is_quoted: bool = False
    """True if another student alone than the table's belongs to the number."""
    source_student: float | None = None
    """AP (VOC07) of that student; None if it is unknown."""

    def gain_baseline(
        self, metric: str, table: Mapping[str, float]
    ) -> tuple[Mapping[str, float], str]:
        """Return the metrics of the student alone over which the number is a gain, and a remark.

        ``table``: those of the table's student. Numbers of two frameworks have no meaningful
        difference, so a quoted number is a gain over the student of its source, or none.
        """
        if not self.is_quoted:
            return table, ""
        has_gain = metric in self.metrics and metric in table
        gain = f"{self.metrics[metric] - table[metric]:+.1f}" if has_gain else "not stated"
        printed = f"(over the student of this table: {gain})"
        if self.source_student is None:
            return {}, f"no published gain, as the student of the source is unknown {printed}"
        text = f"published gain over the student of the source, {self.source_student:g} {printed}"
        return {metric: self.source_student}, text


Published = dict[tuple[str, ...], Line]
"""Lines by the cells of the columns ``ROW_KEY``; ``setting`` is that of a sweep."""


def read_published(library: Library, study: Study, where: str) -> Published:
    """Read a study's published numbers; UserError if one of its tables is not among them.

    A study need not have all tables and rows of the file.
    """
    numbers = _read(library, study.published, where) if study.published else {}
    tables = {row[0] for row in numbers}
    for key, table in study.tables.items():
        if table.published and table.published not in tables:
            file = study.published or "the study, which has no key 'published'"
            raise UserError(
                f"{where}: table '{key}': key 'published': no table '{table.published}' in {file}; "
                f"{suggest(table.published, tables)}"
            )
    return numbers


def find(numbers: Published, dataset: str, table: str, row: tuple[str, ...]) -> Line:
    """Return the published numbers of a row of a table; an empty line if there are none.

    An ablation often lacks the baseline, which another table of the same paper has. It is read from
    there if all such tables of the file have the same numbers.
    """
    line = numbers.get((table, *row))
    if line or not table or row[ROW_KEY.index("method") - 1] != "baseline":
        return line or Line()
    sources = {line.source for key, line in numbers.items() if key[0] == table}
    others = [
        line
        for key, line in numbers.items()
        if key[1:] == row and line.dataset == dataset and line.source in sources
    ]
    metrics = dict(item for line in others for item in line.metrics.items())
    agree = all(line.metrics.items() <= metrics.items() for line in others)
    return others[0]._replace(metrics=metrics) if others and agree else Line()


def _read(library: Library, name: str, where: str) -> Published:
    path = library.root / "published" / name
    if not path.is_file():
        valid = [file.name for file in path.parent.glob("*.csv")]
        raise UserError(f"{where}: key 'published': no {path}; {suggest(name, valid)}")
    numbers: Published = {}
    check = _name_check(library)
    for place, line in read_lines(path, COLUMNS):
        for column in ("dataset", *ROW_KEY[1:-1]):
            check(column, line[column], f"{place}: column '{column}'")
        row = tuple(line[column] for column in ROW_KEY)
        metrics = {key: number(line[key], key, place) for key in METRICS if line[key]}
        published = Line(
            metrics, line["source"], line["differs"], line["note"], line["dataset"],
            *_source_student(line.get(SOURCE_STUDENT, ""), place),
        )  # fmt: skip
        if numbers.setdefault(row, published).metrics != metrics:
            raise UserError(f"{place}: an earlier line has other metrics for row {row}; delete one")
    return numbers


def _source_student(text: str, place: str) -> tuple[bool, float | None]:
    """Return True if a number is quoted, and the student of its source."""
    if text in ("", UNKNOWN):
        return bool(text), None
    return True, number(text, SOURCE_STUDENT, place)


def read_lines(path: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """Return the lines of a file with their places; UserError if a column is missing."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            lines = csv.DictReader(stream, restval="")
            names = lines.fieldnames or ()
            for column in columns:
                if column not in names:
                    raise UserError(f"{path}: no column '{column}'; {suggest(column, names)}")
            return [(f"{path}: line {lines.line_num}", line) for line in lines]
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None


def _name_check(library: Library) -> Callable[[str, str, str], None]:
    """Return a function that raises UserError if a cell names a part that does not exist."""
    valid = {
        "dataset": library.names("datasets"),
        "schedule": library.names("schedules"),
        "detector": library.names("detectors"),
        "method": ["teacher", "baseline", *method_names(library)],
    }

    @cache
    def problem(column: str, name: str) -> str:
        """Return why a name is invalid, empty if it is valid."""
        if column in valid:
            terms = name.split("+") if column == "method" else [name]
            unknown = [term for term in terms if term not in valid[column]]
            return f"no '{unknown[0]}'; {suggest(unknown[0], valid[column])}" if unknown else ""
        if not name or (column == "teacher" and name in library.names("classifiers")):
            return ""
        try:
            library.backbone(name, column)
        except UserError as error:
            return str(error).removeprefix(f"{column}: ")
        return ""

    def check(column: str, name: str, where: str) -> None:
        if message := problem(column, name):
            raise UserError(f"{where}: {message}")

    return check


def number(text: str, column: str, where: str) -> float:
    """Return the number in a cell; UserError if it holds none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: column '{column}': '{text}' is not a number such as 36.1")
    return value
