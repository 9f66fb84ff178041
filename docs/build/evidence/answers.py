"""Table of answers in ``evidence.md``: gain, outcome and training time of every method."""

from pathlib import Path
from typing import NamedTuple

from analysis.statistics.equivalence import UNDETERMINED
from analysis.statistics.gains import Gain
from analysis.tables.formatting import ABSENT, number
from analysis.tables.rows import ResultRow
from docs.build.evidence import claims, page, records
from docs.build.markdown import grid
from kd.config.library import Library

PAGE = Path("docs/explanation/evidence.md")
BLOCK = "answers"


class AnswerColumn(NamedTuple):
    """A table of a study, whose gains are a column of the answers."""

    study: str
    table: str
    title: str


COLUMNS = (
    AnswerColumn("ours", "one_stage", "RetinaNet, shapes"),
    AnswerColumn("ours", "two_stage", "Faster R-CNN, shapes"),
    AnswerColumn("bccd", "pairs", "RetinaNet, blood cells"),
)


def available() -> bool:
    """Return True if the data of every column are stored."""
    return all((records.FOLDER / f"{column.study}.csv").exists() for column in COLUMNS)


def table(library: Library) -> str:
    """Return a line for each method, those with the largest gain first."""
    rows = [_rows(column, library) for column in COLUMNS]
    times = [_times(column) for column in COLUMNS]
    gains: dict[str, list[float]] = {}
    for of_column in rows:
        for name, row in of_column.items():
            gains.setdefault(name, []).append(row.gain.mean if row.gain else 0.0)
    header = ["method"]
    for column, of_column in zip(COLUMNS, rows, strict=True):
        seeds = max(row.seeds_measured for row in of_column.values())
        header += [f"{column.title}, {seeds} seeds: gain (interval)", "time"]
    lines = []
    for name in sorted(gains, key=lambda name: -max(gains[name])):
        lines.append([name])
        for of_column, by_name in zip(rows, times, strict=True):
            gain = of_column[name].gain if name in of_column else None
            lines[-1] += [_outcome(gain), by_name.get(name, ABSENT) if gain else ABSENT]
    return grid(header, lines)


def _outcome(gain: Gain | None) -> str:
    if gain is None or gain.simultaneous is None:
        return ABSENT
    verdict = gain.judgment if gain.judgment == UNDETERMINED else f"**{gain.judgment}**"
    return f"{number(gain.mean, signed=True)} ({claims.ends(gain.simultaneous)}) {verdict}"


def _rows(column: AnswerColumn, library: Library) -> dict[str, ResultRow]:
    """Return the distilled rows of a column by name."""
    title = library.study(column.study, str(PAGE)).tables[column.table].title
    rows = records.read_rows(column.study)
    return {row.label: row for row in rows if row.table == title and row.gain}


def _times(column: AnswerColumn) -> dict[str, str]:
    """Return the training time of each row relative to the baseline on the same processor."""
    runs = records.read(f"{column.study}-runs")
    trainings = page.compared_trainings(runs[runs["table"] == column.table])
    return {line["Row"]: line[page.TIMES] for line in page.costs(trainings)}
