"""Published numbers: ``configs/published/*.csv``, one row of a paper's table per line."""

import csv
import math

from kd.errors import UserError, suggest
from kd.settings.library import Library
from kd.settings.parts import Study

ROW = ("table", "detector", "teacher", "student", "method")
FIGURES = ("AP", "AP50", "AP75", "APS", "APM", "APL")

Published = dict[tuple[str, ...], dict[str, float]]
"""Figures in AP points by (table, detector, teacher, student, method); absent ones left out."""


def read_published(library: Library, study: Study, where: str) -> Published:
    """Read a study's published numbers; UserError where its tables name what is not there."""
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


def _read(library: Library, name: str, where: str) -> Published:
    path = library.root / "published" / name
    if not path.is_file():
        valid = [each.name for each in path.parent.glob("*.csv")]
        raise UserError(f"{where}: key 'published': no {path}; {suggest(name, valid)}")
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            lines = csv.DictReader(stream, restval="")
            for column in (*ROW, *FIGURES):
                if column not in (lines.fieldnames or ()):
                    names = lines.fieldnames or ()
                    raise UserError(f"{path}: no column '{column}'; {suggest(column, names)}")
            return {
                tuple(line[key] for key in ROW): _figures(line, f"{path}: line {lines.line_num}")
                for line in lines
            }
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None


def _figures(line: dict[str, str], where: str) -> dict[str, float]:
    return {figure: _number(line[figure], figure, where) for figure in FIGURES if line[figure]}


def _number(text: str, column: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: column '{column}': '{text}' is not a number such as 36.1")
    return number
