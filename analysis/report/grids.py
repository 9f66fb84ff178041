"""Tables of the page: result rows as cells that can be sorted and opened."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from analysis.report.intervals import Axis, GainBar
from analysis.tables.formatting import ABSENT, STAR, amount, metric_title, number
from analysis.tables.notes import MARKS, marks_of, remarks
from analysis.tables.printed import PrintedTable, printed_tables
from analysis.tables.rows import METRICS, ResultRow, by_group, by_table

DONE, PARTIAL, FAILED, UNRUN = "done", "partial", "failed", "not run"
MEASURED = (DONE, PARTIAL)


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    key: str
    """The key of its cells, which the page's script uses as well."""
    label: str
    value: Callable[[ResultRow], float | str | None]
    """Return the value of a row's cell; None or an empty text for an empty cell."""
    title: str = ""
    """Explanation, shown when the pointer is over the heading."""
    text: Callable[[float], str] | None = number
    """Return the text of a number; None of a column of words."""
    spread: Callable[[ResultRow], float | None] = lambda row: None
    """Return the standard deviation behind the number of a row."""
    only_distilled: bool = False

    @property
    def numeric(self) -> bool:
        """True for a column of numbers."""
        return self.text is not None

    def fills(self, rows: Sequence[ResultRow]) -> bool:
        """Return True if the column has a value in one of the rows."""
        return any(self.value(row) not in (None, "") for row in rows)


@dataclass(frozen=True)
class Cell:
    """A cell: its text, sort key, spread, marks, and gain bar."""

    column: Column
    text: str
    sort: str = ""
    spread: str = ""
    mark: str = ""
    bar: GainBar | None = None


@dataclass(frozen=True)
class RowView:
    """A row of the page."""

    number: int
    """Its index in the plan and in the data of the page's script."""
    result: ResultRow
    cells: list[Cell]
    status: str
    reason: str
    """Reasons of failed runs."""


@dataclass(frozen=True)
class TableView:
    """A table of the page: columns, rows by detector, and the notes under it."""

    name: str
    anchor: str
    columns: list[Column]
    groups: dict[str, list[RowView]]
    axis: Axis
    notes: list[tuple[str, str]]
    """Mark, which may be empty, and text."""
    usage: list[str]

    @property
    def rows(self) -> list[RowView]:
        """All rows, of one detector after another."""
        return [row for rows in self.groups.values() for row in rows]

    @property
    def verdicts(self) -> dict[str, int]:
        """Number of rows by verdict, in order of appearance."""
        return count_verdicts([row.result for row in self.rows])

    @property
    def measured(self) -> int:
        """Number of rows with a result."""
        return sum(row.status in MEASURED for row in self.rows)


def count_verdicts(rows: Sequence[ResultRow]) -> dict[str, int]:
    """Return the number of rows by verdict, in order of appearance."""
    return dict(Counter(row.verdict for row in rows if row.verdict))


def _signed(value: float) -> str:
    return number(value, signed=True)


def _p_text(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def _of_gain(name: str) -> Callable[[ResultRow], float | None]:
    """Return a function that reads a value of a row's gain; None without a gain."""
    return lambda row: getattr(row.gain, name, None)


def _usage_column(key: str, label: str, title: str) -> Column:
    return Column(key, label, lambda row: getattr(row.usage, key, None), title, amount)


TEXT = [
    Column("row", "Row", lambda row: row.label, text=None),
    Column("teacher", "Teacher", lambda row: row.teacher, text=None),
    Column("student", "Student", lambda row: row.student, text=None),
    Column("seeds", "Seeds", lambda row: row.seeds, "Measured of planned seeds", text=None),
]
GAIN = Column(
    "gain", "Gain", _of_gain("mean"), "Over the baseline, paired by seed",
    text=_signed, spread=_of_gain("std"), only_distilled=True,
)  # fmt: skip
BAR = Column(
    "bar", "Gain, drawn", lambda row: None, "Ours and published on one axis",
    text=None, only_distilled=True,
)  # fmt: skip
P = Column(
    "p_holm", "p", _of_gain("p_holm"), "p of no gain, corrected for the gains of the table (Holm)",
    text=_p_text, only_distilled=True,
)  # fmt: skip
PUBLISHED_GAIN = Column(
    "published_gain", "Published gain", lambda row: row.published_gain,
    text=_signed, only_distilled=True,
)  # fmt: skip
VERDICT = Column(
    "verdict", "Verdict", lambda row: row.verdict, "Rule under Statistics",
    text=None, only_distilled=True,
)  # fmt: skip
USAGE = [
    _usage_column("hours", "Hours", "Wall time of training, all seeds"),
    _usage_column("gpu_hours", "GPU-h", "GPU-hours of training, all seeds"),
    _usage_column("images_per_second", "Images/s", "In training"),
    _usage_column("memory_mb", "MB", "Peak memory"),
    _usage_column("energy_kwh", "kWh", "Of the GPUs, where their driver measures it"),
]


def table_views(rows: Sequence[ResultRow], kinds: Mapping[str, str]) -> list[TableView]:
    """Return the tables of result rows, in their order.

    ``kinds``: of ``analysis.report.records``, by run directory.
    """
    numbered = [(index, row) for index, row in enumerate(rows)]
    tables = zip(printed_tables(rows), by_table(rows), strict=True)
    return [
        _table(place, printed, [pair for pair in numbered if pair[1].table == title], kinds)
        for place, (printed, title) in enumerate(tables, 1)
    ]


def _table(
    place: int,
    printed: PrintedTable,
    numbered: Sequence[tuple[int, ResultRow]],
    kinds: Mapping[str, str],
) -> TableView:
    rows = [row for _, row in numbered]
    columns, axis, table_remarks = _columns(rows), Axis.of(rows), remarks(rows)
    groups: dict[str, list[RowView]] = {group: [] for group in by_group(rows)}
    for index, row in numbered:
        marks = marks_of(row, table_remarks)
        cells = [_cell(row, column, axis, marks) for column in columns]
        status, reason = status_of(row, [kinds[str(run)] for run in row.runs])
        groups[row.group].append(RowView(index, row, cells, status, reason))
    # Signs in parentheses explain intervals, which the page draws as bars.
    notes = [_split(note) for note in printed.notes if not note.startswith("(")]
    return TableView(
        printed.title, f"table-{place}", columns, groups, axis, notes, printed.usage_notes
    )


def _split(note: str) -> tuple[str, str]:
    """Return the mark at the start of a note, and the note."""
    mark = re.match(rf"([{MARKS}{re.escape(STAR)}]+) ", note)
    return (mark[1], note[mark.end() :]) if mark else ("", note)


def _columns(rows: Sequence[ResultRow]) -> list[Column]:
    """Return the columns with a value in these rows, the headline metrics first."""
    headlines = dict.fromkeys(row.metric for row in rows)
    published = [_published_column(name) for name in headlines]
    metrics = [
        _metric_column(name)
        for name in dict.fromkeys([*headlines, *METRICS])
        if any(name in row.metrics or name in row.published for row in rows)
    ]
    optional = [*published, PUBLISHED_GAIN, VERDICT]
    return [
        *(column for column in TEXT if column.fills(rows)),
        *metrics,
        *([GAIN] if any(row.kind == "distilled" for row in rows) else []),
        *([BAR] if GAIN.fills(rows) or PUBLISHED_GAIN.fills(rows) else []),
        *(column for column in (P, *optional) if column.fills(rows)),
        *(column for column in USAGE if any(column.value(row) for row in rows)),
    ]


def _metric_column(name: str) -> Column:
    return Column(
        name,
        metric_title(name),
        lambda row: row.metrics.get(name),
        spread=lambda row: row.std if row.metric == name else None,
    )


def _published_column(name: str) -> Column:
    title = f"Published {metric_title(name)}"
    return Column(f"published_{name}", title, lambda row: row.published.get(name))


def _cell(row: ResultRow, column: Column, axis: Axis, marks: str) -> Cell:
    if column.only_distilled and row.kind != "distilled":
        return Cell(column, "")
    if column is BAR:
        return Cell(column, "", f"{row.gain.mean:.4f}" if row.gain else "", bar=axis.bar(row))
    value, spread = column.value(row), column.spread(row)
    mark = _mark(row, column, marks)
    if column.text is None or isinstance(value, str):
        text = str(value or "")
        return Cell(column, text or ABSENT, _sort_key(row, column, text), mark=mark)
    if value is None:
        return Cell(column, ABSENT)
    spread_text = "" if spread is None else number(spread)
    return Cell(column, column.text(value), f"{value:.6g}", spread_text, mark)


def _sort_key(row: ResultRow, column: Column, text: str) -> str:
    """Return the sort key of a cell of words: the share of seeds for seeds, else its text."""
    if column.key != "seeds":
        return text
    return f"{row.seeds_measured / max(row.seeds_planned, 1):.4f}"


def _mark(row: ResultRow, column: Column, marks: str) -> str:
    """Return the mark of a cell; those of the row follow its published number, else its label."""
    if column is GAIN:
        return STAR if row.gain and row.gain.significant else ""
    key = f"published_{row.metric}" if row.metric in row.published else "row"
    return marks if column.key == key else ""


def status_of(row: ResultRow, kinds: Sequence[str]) -> tuple[str, str]:
    """Return the status of a row, and the reasons of failed runs.

    The status is done, partial or failed; or running, queued or not run if no run has a result or
    has failed. ``kinds``: of the runs.
    """
    reason = "; ".join(row.failures)
    if row.status == "ok":
        return DONE, reason
    if row.seeds_measured:
        return PARTIAL, reason
    if row.failures:
        return FAILED, reason
    return next((kind for kind in ("running", "queued") if kind in kinds), UNRUN), reason
