"""Differences between recorded and recomputed numbers, one line for each."""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

ROUNDING = 1e-9
"""Relative difference of two processors' sums; larger ones are differences."""


def differences(recorded: Any, computed: Any, place: str = "") -> Iterator[str]:
    """Yield a line for each value of a recorded JSON document that differs.

    Keys that only the computed document has are passed over: earlier versions did not know them.
    """
    if isinstance(recorded, dict) and isinstance(computed, dict):
        for key, value in recorded.items():
            yield from differences(value, computed.get(key), f"{place}.{key}" if place else key)
    elif not _same(recorded, computed):
        yield f"{place}: recorded {_text(recorded)}, computed {_text(computed)}"


def count(document: Any) -> int:
    """Return the number of values in a JSON document."""
    return sum(map(count, document.values())) if isinstance(document, dict) else 1


def csv_differences(recorded: str, computed: str) -> Iterator[str]:
    """Yield a line for each cell of a table that differs, with its row and column."""
    before, after = (list(csv.DictReader(io.StringIO(text))) for text in (recorded, computed))
    if len(before) != len(after):
        yield f"{len(before)} rows recorded, {len(after)} computed"
        return
    for old, new in zip(before, after, strict=True):
        row = " ".join(filter(None, (old.get(key) for key in ("table", "group", "row", "setting"))))
        for column in dict.fromkeys([*old, *new]):
            values = old.get(column), new.get(column)
            if not _same_text(*values):
                yield f"row '{row}', column {column}: recorded {values[0]}, computed {values[1]}"


def line_differences(recorded: str, computed: str) -> Iterator[str]:
    """Yield a line for each line of a text that differs."""
    before, after = recorded.splitlines(), computed.splitlines()
    if len(before) != len(after):
        yield f"{len(before)} lines recorded, {len(after)} computed"
    for number, (old, new) in enumerate(zip(before, after, strict=False), start=1):
        if old != new:
            yield f"line {number}: recorded '{old.strip()}', computed '{new.strip()}'"


def _same(recorded: Any, computed: Any) -> bool:
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in (recorded, computed)
    )
    if numbers:
        return math.isclose(recorded, computed, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return bool(recorded == computed)


def _same_text(recorded: str | None, computed: str | None) -> bool:
    if recorded == computed:
        return True
    try:
        return _same(float(recorded or ""), float(computed or ""))
    except ValueError:
        return False


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
