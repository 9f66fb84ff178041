"""Printed tables: result rows as grids of text with notes, which Markdown and LaTeX share."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analysis.tables.equal_time import hours_notes
from analysis.tables.formatting import (
    ABSENT,
    GAIN_TITLE,
    JOINT_TITLE,
    MODERATED_TITLE,
    amount,
    ends_text,
    gain_text,
    judgment_text,
    metric_title,
    number,
)
from analysis.tables.measures import has_measures, measure_cells, measure_notes
from analysis.tables.miniature import LEFT_OUT, printable
from analysis.tables.notes import Remark, marks_of, notes, remarks
from analysis.tables.rows import DONE, METRICS, ResultRow, by_group, by_table
from analysis.tables.sizes import latency_cells, latency_notes, size_cells, size_notes
from analysis.tables.usage import total_usage
from kd.resources.usage import Usage

LEFT = {
    *("Row", "Teacher", "Student", "Seeds", "Judgment", "Verdict", "Status", "Detector"),
    *("Verdict on AP", "Verdict on mAP"),
    *("Order", "Term", "Holds", "Settings", "Processor"),
    *("Table", "Before", "Now", "Reason", "Published for", "Measured for"),
}
"""Left-aligned columns."""
MEGABYTES = 1000
"""Megabytes in a gigabyte."""


class Section(NamedTuple):
    """Rows of a grid under one title, which may be empty."""

    title: str
    rows: list[list[str]]


class Grid(NamedTuple):
    """Columns of text; no column is absent in every row."""

    header: list[str]
    sections: list[Section]


class PrintedTable(NamedTuple):
    """A table in print: results, measures beside AP, and usage, each with notes.

    A grid has no rows, and no notes, if nothing was measured.
    """

    title: str
    results: Grid
    notes: list[str]
    measures: Grid
    measure_notes: list[str]
    usage: Grid
    usage_notes: list[str]


def printed_tables(rows: Sequence[ResultRow]) -> list[PrintedTable]:
    """Return a printed table for each table of the rows, in order of appearance."""
    return [_printed_table(title, members) for title, members in by_table(rows).items()]


def distinct_label(row: ResultRow, rows: Sequence[ResultRow]) -> str:
    """Return a row's label, with its student or teacher where its group repeats the label."""
    alike = [other for other in rows if (other.group, other.label) == (row.group, row.label)]
    model = row.student or row.teacher
    return f"{row.label} ({model})" if len(alike) > 1 and model else row.label


def shown_level_verdict(row: ResultRow) -> str:
    """Return the verdict on a row's AP; empty where the verdict on its gain gives the reason."""
    reasons = ("not run", f"ran at {row.scale}")
    return "" if row.level_verdict in reasons else row.level_verdict


def _printed_table(title: str, measured: Sequence[ResultRow]) -> PrintedTable:
    rows = printable(measured)
    had_published = any(row.published for row in measured)
    left_out = [LEFT_OUT] if had_published and not any(row.published for row in rows) else []
    table_remarks = remarks(rows)
    results = {
        group: [_result_cells(row, table_remarks) for row in members]
        for group, members in by_group(rows).items()
    }
    measure_rows = [
        _name_cells(row, rows) | measure_cells(row) for row in rows if has_measures(row)
    ]
    costly = [row for row in rows if row.usage or row.size or row.latency]
    usage_rows = [_usage_cells(row, rows) for row in costly]
    usage_notes = [
        *_total_usage(rows),
        *hours_notes(rows),
        *size_notes(rows),
        *latency_notes(rows),
    ]
    lines = [*notes(rows), *left_out]
    return PrintedTable(
        title,
        _grid(results),
        lines,
        _grid({"": measure_rows}),
        measure_notes(rows),
        _grid({"": usage_rows}),
        usage_notes,
    )


def _grid(sections: Mapping[str, Sequence[Mapping[str, str]]]) -> Grid:
    """Return a grid of rows that map columns to text, without the columns that are empty."""
    rows = [row for members in sections.values() for row in members]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    header = [name for name in columns if any(row.get(name, ABSENT) != ABSENT for row in rows)]
    return Grid(
        header,
        [
            Section(title, [[row.get(name, ABSENT) for name in header] for row in members])
            for title, members in sections.items()
        ],
    )


def _result_cells(row: ResultRow, remarks: Sequence[Remark]) -> dict[str, str]:
    """Return the text of a row by column; marks follow the published number, else the label."""
    title = metric_title(row.metric)
    published = number(row.published.get(row.metric))
    marks = marks_of(row, remarks)
    bare = published == ABSENT
    return {
        "Row": row.label + (marks if bare else ""),
        "Teacher": row.teacher or ABSENT,
        "Student": row.student or ABSENT,
        "Seeds": row.seeds,
        title: number(row.headline, row.std),
        **{name: number(row.metrics.get(name)) for name in METRICS if name != row.metric},
        GAIN_TITLE: gain_text(row.gain),
        MODERATED_TITLE: _moderated(row) or ABSENT,
        JOINT_TITLE: ends_text(row.gain.joint if row.gain else None) or ABSENT,
        "Judgment": judgment_text(row.gain) or ABSENT,
        f"Published {title}": published if bare else published + marks,
        "Published gain": number(row.published_gain, signed=True),
        f"Verdict on {title}": shown_level_verdict(row) or ABSENT,
        "Verdict": ABSENT if row.verdict in ("", "not run") else row.verdict,
        "Status": ABSENT if row.status == DONE else row.status,
    }


def _moderated(row: ResultRow) -> str:
    """Return the interval by a moderated variance, if the variances of the row's cell differ."""
    return ends_text(row.gain.moderated) if row.gain and row.cell and row.cell.varies else ""


def _usage_cells(row: ResultRow, rows: Sequence[ResultRow]) -> dict[str, str]:
    """Return the cost of a row as text by column: of its trainings, and of its detector."""
    costs = (_training_cells(row.usage) if row.usage else {}) | size_cells(row.size)
    return _name_cells(row, rows) | costs | latency_cells(row, rows)


def _name_cells(row: ResultRow, rows: Sequence[ResultRow]) -> dict[str, str]:
    """Return the name of a row by column, with its detector if the rows have several."""
    return {
        "Detector": row.group if len({other.group for other in rows}) > 1 else ABSENT,
        "Row": distinct_label(row, rows),
    }


def _training_cells(usage: Usage) -> dict[str, str]:
    memory = None if usage.memory_mb is None else usage.memory_mb / MEGABYTES
    return {
        "Hours": amount(usage.hours),
        "GPU-hours": amount(usage.gpu_hours),
        "Training images/s": amount(usage.images_per_second),
        "Training memory, GB": amount(memory),
        "Energy, kWh": amount(usage.energy_kwh),
    }


def _total_usage(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line with the usage of a table: its runs and those of its teachers, each once."""
    if not any(row.usage for row in rows):
        return []
    usage = total_usage(
        path for row in rows for path in (*row.runs, *row.baseline_runs, *row.teacher_runs)
    )
    hours, unit = (
        (usage.gpu_hours, "GPU-hours") if usage.gpu_hours else (usage.hours, "hours on CPUs")
    )
    return [f"All trainings of the table, shared ones counted once: {amount(hours)} {unit}."]
