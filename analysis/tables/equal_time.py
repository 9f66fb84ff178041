"""Measured hours of controls beside those of distilled students."""

from collections.abc import Iterator, Sequence

from analysis.tables.formatting import amount
from analysis.tables.rows import ResultRow


def hours_notes(rows: Sequence[ResultRow]) -> Iterator[str]:
    """Yield a line for each measured control with the hours of one training, its and distilled."""
    for control in rows:
        if control.kind != "control" or control.usage is None:
            continue
        hours = [
            _hours(row)
            for row in rows
            if row.kind == "distilled"
            and row.baseline_runs == control.baseline_runs
            and row.usage is not None
        ]
        if hours:
            span = dict.fromkeys((amount(min(hours)), amount(max(hours))))
            yield (
                f"Measured hours of a training on {control.group}: {control.label} "
                f"{amount(_hours(control))}, distilled students {' to '.join(span)}."
            )


def _hours(row: ResultRow) -> float:
    """Return the mean hours of a row's measured trainings."""
    return row.usage.hours / row.seeds_measured if row.usage else 0.0
