"""Tables of the page: result rows as cells that can be sorted and opened."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.report.graph import most_urgent
from analysis.report.intervals import Axis, GainBar
from analysis.tables.formatting import (
    ABSENT,
    GAIN_TITLE,
    STAR,
    amount,
    interval_text,
    judgment_text,
    metric_title,
    number,
)
from analysis.tables.miniature import printable
from analysis.tables.notes import MARKS, marks_of, remarks
from analysis.tables.printed import PrintedTable, printed_tables, shown_level_verdict
from analysis.tables.rows import METRICS, ResultRow, by_group, by_table
from analysis.tables.sizes import LATENCIES, MILLISECONDS, RATE, SIZES, shown_latency


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
    below: Callable[[ResultRow], str] = lambda row: ""
    """Return the second line of a row's cell."""
    only_compared: bool = False
    is_cost: bool = False
    """True for columns of costs, which are shown on request."""

    @property
    def numeric(self) -> bool:
        """True for a column of numbers."""
        return self.text is not None

    def fills(self, rows: Sequence[ResultRow]) -> bool:
        """Return True if the column has a value in one of the rows."""
        empty = (None, "", 0) if self.is_cost else (None, "")
        return any(self.value(row) not in empty for row in rows)


@dataclass(frozen=True)
class Cell:
    """A cell: its text, sort key, spread, marks, second line, and gain bar."""

    column: Column
    text: str
    sort: str = ""
    spread: str = ""
    mark: str = ""
    below: str = ""
    bar: GainBar | None = None


@dataclass(frozen=True)
class RowView:
    """A row of the page."""

    number: int
    """Its index in the plan and in the data of the page's script."""
    result: ResultRow
    cells: list[Cell]
    models: str
    """Teacher and student, unless the heading of its group names them."""
    state: str
    """State of its runs, by the one that needs most attention."""
    reason: str
    """Reasons of failed runs."""

    @property
    def judgment(self) -> str:
        """The judgment on our gain; empty without an interval over seeds."""
        return judgment_text(self.result.gain)

    @property
    def verdict(self) -> str:
        """The verdict on the published gain; empty without one."""
        return shown_verdict(self.result)


@dataclass(frozen=True)
class TableView:
    """A table of the page: columns, rows by detector, and the notes under it."""

    name: str
    anchor: str
    columns: list[Column]
    groups: dict[str, list[RowView]]
    models: dict[str, str]
    """Teacher and student that all rows of a group share, by group."""
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
        return sum(row.result.seeds_measured > 0 for row in self.rows)


def count_verdicts(rows: Sequence[ResultRow]) -> dict[str, int]:
    """Return the number of rows by verdict, in order of appearance."""
    return dict(Counter(filter(None, map(shown_verdict, rows))))


def shown_verdict(row: ResultRow) -> str:
    """Return the verdict of a row; empty without a gain of ours."""
    return row.verdict if row.gain else ""


def _signed(value: float) -> str:
    return number(value, signed=True)


def _of_gain(name: str) -> Callable[[ResultRow], float | None]:
    """Return a function that reads a value of a row's gain; None without a gain."""
    return lambda row: getattr(row.gain, name, None)


def _usage_column(key: str, label: str, title: str) -> Column:
    return Column(
        key, label, lambda row: getattr(row.usage, key, None), title, amount, is_cost=True
    )


def _size_column(key: str, label: str, title: str) -> Column:
    size_of = SIZES[label]
    return Column(
        key, label, lambda row: size_of(row.size) if row.size else None, title, amount, is_cost=True
    )


def _latency_column(key: str, label: str, rows: Sequence[ResultRow]) -> Column:
    """Return a column of latencies, which shows comparable rows of a table only."""

    def value(row: ResultRow) -> float | None:
        latency = shown_latency(row, rows)
        return LATENCIES[label](latency) if latency else None

    title = "Speed of the row's detector after training; the note below the table has conditions"
    return Column(key, label, value, title, amount, is_cost=True)


ROW = Column("row", "Row", lambda row: row.label, text=None)
SEEDS = Column("seeds", "Seeds", lambda row: row.seeds, "Measured of planned seeds", text=None)
GAIN = Column(
    "gain", GAIN_TITLE, _of_gain("mean"),
    "Difference to the baseline of the same seed, with its confidence interval", text=_signed,
    spread=_of_gain("std"), below=lambda row: interval_text(row.gain) if row.gain else "",
    only_compared=True,
)  # fmt: skip
BAR = Column(
    "bar", "Gain, drawn", lambda row: None, "Gain, interval and published gain on one axis",
    text=None, only_compared=True,
)  # fmt: skip
JUDGMENT = Column(
    "judgment", "Judgment", lambda row: judgment_text(row.gain), "What is shown of our gain",
    text=None, only_compared=True,
)  # fmt: skip
VERDICT = Column(
    "verdict", "Verdict", shown_verdict,
    "Verdict on the published gain; Statistics has the rule", text=None, only_compared=True,
)  # fmt: skip
USAGE = [
    _usage_column("hours", "Hours", "Wall time of training, all seeds"),
    _usage_column("gpu_hours", "GPU-h", "GPU-hours of training, all seeds"),
    _usage_column("images_per_second", "Training images/s", "Images per second in training"),
    _usage_column("memory_mb", "Training MB", "Peak memory of training in MB"),
    _usage_column("energy_kwh", "kWh", "Energy of the GPUs, where their driver measures it"),
]

SIZE = [
    _size_column("parameters", "Parameters, M", "Millions of parameters of the row's detector"),
    _size_column("multiply_adds", "GFLOPs", "Billion multiply-adds for one test image"),
    _size_column("weight_bytes", "Weights, MB", "Megabytes of weights of the row's detector"),
]


def table_views(rows: Sequence[ResultRow], states: Mapping[str, str]) -> list[TableView]:
    """Return the tables of result rows, in their order.

    ``states``: of the runs, by directory.
    """
    numbered = [(index, row) for index, row in enumerate(rows)]
    tables = zip(printed_tables(rows), by_table(rows), strict=True)
    return [
        _table(place, printed, [pair for pair in numbered if pair[1].table == title], states)
        for place, (printed, title) in enumerate(tables, 1)
    ]


def _table(
    place: int,
    printed: PrintedTable,
    numbered: Sequence[tuple[int, ResultRow]],
    states: Mapping[str, str],
) -> TableView:
    rows = printable([row for _, row in numbered])
    columns, axis, table_remarks = _columns(rows), Axis.of(rows), remarks(rows)
    models = {group: _shared_models(members) for group, members in by_group(rows).items()}
    groups: dict[str, list[RowView]] = {group: [] for group in models}
    for (index, _), row in zip(numbered, rows, strict=True):
        marks = marks_of(row, table_remarks)
        cells = [_cell(row, column, axis, marks) for column in columns]
        own_models = "" if models[row.group] else _models(row)
        state = most_urgent(states[str(run)] for run in row.runs)
        view = RowView(index, row, cells, own_models, state, "; ".join(row.failures))
        groups[row.group].append(view)
    notes = [_split(note) for note in printed.notes]
    anchor = f"table-{place}"
    return TableView(
        printed.title, anchor, columns, groups, models, axis, notes, printed.usage_notes
    )


def _models(row: ResultRow) -> str:
    """Return the teacher and the student of a row, such as ``ResNet-50 \u2192 ResNet-18``."""
    return " \u2192 ".join(filter(None, (row.teacher, row.student)))


def _shared_models(rows: Sequence[ResultRow]) -> str:
    """Return teacher and student of rows; empty if they have several of either."""
    names = {name for row in rows for name in (row.teacher, row.student) if name}
    distilled = {_models(row) for row in rows if row.kind == "distilled"}
    if len(distilled) != 1 or len(names) > 2:
        return ""
    (models,) = distilled
    return models


def _split(note: str) -> tuple[str, str]:
    """Return the mark at the start of a note, and the note."""
    mark = re.match(rf"([{MARKS}{re.escape(STAR)}]+) ", note)
    return (mark[1], note[mark.end() :]) if mark else ("", note)


def _columns(rows: Sequence[ResultRow]) -> list[Column]:
    """Return the columns with a value in these rows, the gain and its verdict first."""
    headlines = dict.fromkeys(row.metric for row in rows)
    metrics = [name for name in METRICS if name not in headlines]
    compared = any(row.compared for row in rows)
    has_gains = GAIN.fills(rows) or any(row.published_gain is not None for row in rows)
    optional = [
        *(_metric_column(name) for name in metrics),
        *map(_published_column, headlines),
        _level_verdict_column(headlines),
        *USAGE,
        *SIZE,
        _latency_column("inference_ms", MILLISECONDS, rows),
        _latency_column("inference_images_per_second", RATE, rows),
    ]
    return [
        ROW,
        *([GAIN] if compared else []),
        *([BAR] if has_gains else []),
        *(column for column in (JUDGMENT, VERDICT) if column.fills(rows)),
        *map(_metric_column, headlines),
        SEEDS,
        *(column for column in optional if column.fills(rows)),
    ]


def _metric_column(name: str) -> Column:
    return Column(
        name,
        metric_title(name),
        lambda row: row.metrics.get(name),
        spread=lambda row: row.std if row.metric == name else None,
    )


def _level_verdict_column(headlines: Iterable[str]) -> Column:
    names = " and ".join(map(metric_title, headlines))
    title = f"Verdict on the published {names}; Statistics has the rule"
    return Column("level_verdict", f"Verdict on {names}", shown_level_verdict, title, text=None)


def _published_column(name: str) -> Column:
    def below(row: ResultRow) -> str:
        has_gain = row.metric == name and row.published_gain is not None
        return _signed(row.published_gain or 0.0) if has_gain else ""

    return Column(
        f"published_{name}",
        f"Published {metric_title(name)}, gain",
        lambda row: row.published.get(name),
        below=below,
    )


def _cell(row: ResultRow, column: Column, axis: Axis, marks: str) -> Cell:
    if column.only_compared and not row.compared:
        return Cell(column, "")
    if column is BAR:
        return Cell(column, "", f"{row.gain.mean:.4f}" if row.gain else "", bar=axis.bar(row))
    value, spread = column.value(row), column.spread(row)
    mark = _mark(row, column, marks)
    if column.text is None or isinstance(value, str):
        text = str(value or "")
        return Cell(column, text or ABSENT, _sort_key(row, column, text), mark=mark)
    if value is None or (column.is_cost and not value):
        return Cell(column, ABSENT)
    spread_text = "" if spread is None else number(spread)
    return Cell(column, column.text(value), f"{value:.6g}", spread_text, mark, column.below(row))


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
