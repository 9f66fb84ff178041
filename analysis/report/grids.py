"""The tables of the page: the lines of the one frame as cells that can be sorted and opened."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.report.intervals import Axis, Bar, has
from analysis.statistics.seeds import SIGNIFICANT
from analysis.tables import formatting
from analysis.tables import rows as tables
from analysis.tables.formatting import ABSENT, STAR, Line

DONE, PARTIAL, FAILED, UNRUN = "done", "partial", "failed", "not run"
MEASURED = (DONE, PARTIAL)


@dataclass(frozen=True)
class Column:
    """A column of a table; ``key`` is that of its cells, in the page's script as well."""

    key: str
    label: str
    title: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """What stands in a cell: text, what it is sorted by, its spread, marks, or a bar."""

    column: Column
    text: str
    sort: str = ""
    spread: str = ""
    mark: str = ""
    bar: Bar | None = None


@dataclass(frozen=True)
class RowView:
    """A row; ``number`` is its place in the plan and in the data of the page's script."""

    number: int
    line: Line
    cells: list[Cell]
    status: str
    reason: str

    @property
    def verdict(self) -> str:
        return str(self.line["verdict"] or "")


@dataclass(frozen=True)
class TableView:
    """A table of the study: columns, rows by detector, and what stands under it."""

    name: str
    anchor: str
    columns: list[Column]
    groups: dict[str, list[RowView]]
    axis: Axis
    notes: list[tuple[str, str]]
    """Mark, which may be empty, and text."""
    cost: list[str]

    @property
    def rows(self) -> list[RowView]:
        return [row for rows in self.groups.values() for row in rows]

    @property
    def verdicts(self) -> dict[str, int]:
        """How many rows have each verdict, in order of appearance."""
        return dict(Counter(row.verdict for row in self.rows if row.verdict))

    @property
    def measured(self) -> int:
        return sum(row.status in MEASURED for row in self.rows)


TEXT = [
    Column("row", "Row", numeric=False),
    Column("teacher", "Teacher", numeric=False),
    Column("student", "Student", numeric=False),
    Column("seeds", "Seeds", "Seeds that have a result, of those planned", numeric=False),
]
GAIN = Column("gain", "Gain", "Over the student trained alone, paired by seed")
BAR = Column("bar", "Gain, drawn", "Ours and published on one axis", numeric=False)
P = Column("p_holm", "p", "That there is no gain; corrected for the gains of the table (Holm)")
PUBLISHED = Column("published_gain", "Published gain")
VERDICT = Column("verdict", "Verdict", "By the rule under Statistics", numeric=False)
OF_GAINS = {column.key for column in (GAIN, BAR, P, PUBLISHED, VERDICT)}
"""Columns that only distilled rows have something in."""
COSTS = [
    Column("hours", "Hours", "Wall time of training, all seeds"),
    Column("gpu_hours", "GPU-h", "GPU-hours of training, all seeds"),
    Column("images_per_second", "Images/s", "In training"),
    Column("memory_mb", "MB", "Peak memory"),
    Column("energy_kwh", "kWh", "Of the GPUs, where their driver tells"),
]


def table_views(frame: pd.DataFrame, kinds: Mapping[str, str]) -> list[TableView]:
    """Return the tables of a frame of ``analysis.tables.rows.build``, in its order.

    ``kinds``: of ``analysis.report.records``, by run directory.
    """
    lines = [
        {**line, "number": place, "kinds": [kinds[run] for run in line["runs"].split()]}
        for place, line in enumerate(tables.lines(frame))
    ]
    printed = formatting.sheets(frame)
    members = tables.grouped(lines, "table").values()
    return [
        _table(place, sheet, own)
        for place, (sheet, own) in enumerate(zip(printed, members, strict=True), 1)
    ]


def _table(place: int, sheet: formatting.Sheet, lines: list[dict[str, Any]]) -> TableView:
    columns, axis, mark = _columns(lines), Axis.of(lines), formatting.marks(lines)
    groups = {
        group: [_row(line, columns, axis, mark) for line in members]
        for group, members in tables.grouped(lines, "group").items()
    }
    # What is in parentheses in other outputs is drawn here.
    notes = [_split(note) for note in sheet.notes if not note.startswith("(")]
    return TableView(sheet.title, f"table-{place}", columns, groups, axis, notes, sheet.cost_notes)


def _split(note: str) -> tuple[str, str]:
    """Return the mark that a note begins with, and the note."""
    found = re.match(rf"([{formatting.MARKS}{re.escape(STAR)}]+) ", note)
    return (found[1], note[found.end() :]) if found else ("", note)


def _columns(lines: Sequence[Line]) -> list[Column]:
    """Return the columns that say something of these rows, the headline figure first."""

    def told(*columns: Column) -> list[Column]:
        return [column for column in columns if any(has(line, column.key) for line in lines)]

    def filled(column: Column) -> list[Column]:
        return [column] if any(line[column.key] for line in lines) else []

    headlines = dict.fromkeys(line["metric"] for line in lines)
    figures = dict.fromkeys([*headlines, *tables.FIGURES])
    named = [
        Column(name, formatting.name_of(name))
        for name in figures
        if any(has(line, name) or has(line, f"published_{name}") for line in lines)
    ]
    published = [
        Column(f"published_{name}", f"Published {formatting.name_of(name)}") for name in headlines
    ]
    bar = [BAR] if told(GAIN, PUBLISHED) else []
    gains = [GAIN] if any(line["kind"] == "distilled" for line in lines) else []
    return [
        *(column for column in TEXT if filled(column)),
        *(*named, *gains, *bar, *told(P), *told(*published, PUBLISHED), *filled(VERDICT)),
        *(column for column in COSTS if any(line[column.key] > 0 for line in lines)),
    ]


def _row(line: Line, columns: Sequence[Column], axis: Axis, mark: Mapping[str, str]) -> RowView:
    status, reason = status_of(line)
    cells = [_cell(line, column, axis, formatting.mark_of(line, mark)) for column in columns]
    return RowView(int(line["number"]), line, cells, status, reason)


def _cell(line: Line, column: Column, axis: Axis, mark: str) -> Cell:
    key, headline = column.key, line["metric"]
    if line["kind"] != "distilled" and key in OF_GAINS:
        return Cell(column, "")
    if key == "bar":
        sort = f"{line['gain']:.4f}" if has(line, "gain") else ""
        return Cell(column, "", sort, bar=axis.bar(line))
    if key == "seeds":
        done, _, planned = line["seeds"].partition("/")
        return Cell(column, line["seeds"], f"{int(done) / max(int(planned), 1):.4f}")
    if not column.numeric:
        bare = not has(line, f"published_{headline}")
        text = str(line[key] or "")
        return Cell(column, text or ABSENT, text, mark=mark if key == "row" and bare else "")
    if not has(line, key):
        return Cell(column, ABSENT)
    spread = {headline: "std", "gain": "gain_std"}.get(key, "")
    return Cell(
        column,
        _text(line, key),
        f"{line[key]:.6g}",
        formatting.number(line[spread]) if has(line, spread) else "",
        _marks(line, key, mark),
    )


def _text(line: Line, key: str) -> str:
    if key == P.key:
        return f"{line[key]:.3f}" if line[key] >= 0.001 else "<0.001"
    if key in tables.COST:
        return formatting.amount(line[key])
    return formatting.number(line[key], signed=key.endswith("gain"))


def _marks(line: Line, key: str, mark: str) -> str:
    if key == "gain":
        return STAR if line["p_holm"] < SIGNIFICANT else ""
    return mark if key == f"published_{line['metric']}" else ""


def status_of(line: Line) -> tuple[str, str]:
    """Return where a row is, and the reasons of failed runs.

    It is done, partial or failed; or, without any result so far, running, queued or not run.
    """
    status, _, reason = line["status"].partition("failed: ")
    kind = {"ok": DONE, "not run": UNRUN}.get(status, PARTIAL if "partial" in status else FAILED)
    at_work = (each for each in ("running", "queued") if each in line["kinds"])
    return next(at_work, kind) if kind == UNRUN else kind, reason
