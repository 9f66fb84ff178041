"""Markdown tables of a model card."""

from collections.abc import Iterable, Sequence

from analysis.statistics.seeds import Interval
from analysis.tables.formatting import number


def table(header: Sequence[str], rows: Iterable[Sequence[object]], right: int = 0) -> str:
    """Return a Markdown table, whose columns after the first ``right`` are right-aligned."""
    left = right or len(header)
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(cell_text(cell) for cell in line)} |" for line in lines)


def cell_text(value: object) -> str:
    """Return a value as the text of a cell."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def points(value: float | None) -> str:
    """Return a metric from 0 to 1 in AP points."""
    return number(None if value is None else 100 * value)


def between(interval: Interval | None) -> str:
    """Return the ends of an interval; a dash without one."""
    if interval is None:
        return number(None)
    return f"{number(interval.low)} to {number(interval.high)}"
