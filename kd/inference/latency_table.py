"""Rows of ``kd latency``: detectors with their times, size and file, as text and as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from kd.config.composed import ComposedConfig, read_config
from kd.inference.latency import LatencyTimes, summarize
from kd.inference.loading import is_run, weights_file
from kd.records.latency import Conditions
from kd.records.model_size import GIGA, MEGABYTE, MILLION, read_size, write_size

COLUMNS = (
    "detector", "batch", "median, ms", "p95, ms", "images/s", "preprocessing, ms",
    "parameters, M", "GFLOPs", "file, MB",
)  # fmt: skip
TIMED = (
    "Times are for a whole batch, from resized images in memory to boxes: copying to the device, "
    "normalization, network and post-processing. Reading files is not timed; preprocessing "
    "(resizing, packing) comes on top."
)


class DetectorRow(NamedTuple):
    """A measured detector."""

    name: str
    source: Path
    conditions: Conditions
    times: Mapping[int, LatencyTimes]
    """Times by batch size."""
    parameters: int | None
    """None of a file that does not state them."""
    multiply_adds: int | None
    """Multiply-adds for one image of the measured size."""
    file_bytes: int


def counts_of(source: Path, size: tuple[int, int]) -> tuple[int | None, int | None]:
    """Return parameters, and multiply-adds for an image of a size; None for both of a file."""
    if not is_run(source):
        return None, None
    recorded = read_size(source) or write_size(source)
    if (recorded.width, recorded.height) == size:
        return recorded.parameters, recorded.multiply_adds
    from kd.models.complexity import complexity

    counts = complexity(ComposedConfig(read_config(source)).student, *size)
    return counts.parameters, counts.multiply_adds


def describe(rows: Sequence[DetectorRow], teachers: Mapping[str, str]) -> str:
    """Return a table of the rows, their conditions, and students beside their teachers.

    ``teachers``: name of the teacher's row by that of the student's.
    """
    cells = [
        (
            row.name, one.batch, f"{one.median_ms:.2f}", f"{one.p95_ms:.2f}",
            f"{one.images_per_second:.1f}", f"{one.preprocessing_ms:.2f}",
            _scaled(row.parameters, MILLION), _scaled(row.multiply_adds, GIGA),
            _scaled(row.file_bytes, MEGABYTE),
        )
        for row in rows
        for one in summarize(row.times)
    ]  # fmt: skip
    align = ("left", *["right"] * (len(COLUMNS) - 1))
    table = tabulate(cells, COLUMNS, tablefmt="plain", colalign=align, disable_numparse=True)
    ratios = [line for row in rows for line in _ratios(row, rows, teachers)]
    return "\n".join([table, "", *ratios, *_condition_lines(rows), TIMED])


def document(rows: Sequence[DetectorRow], teachers: Mapping[str, str]) -> dict[str, Any]:
    """Return the rows as JSON."""
    return {
        "rows": [
            {
                "name": row.name,
                "source": str(row.source),
                "teacher": teachers.get(row.name),
                **row.conditions._asdict(),
                "batches": [
                    {**one._asdict(), "images_per_second": one.images_per_second}
                    for one in summarize(row.times)
                ],
                "parameters": row.parameters,
                "multiply_adds": row.multiply_adds,
                "file": str(weights_file(row.source)),
                "file_bytes": row.file_bytes,
            }
            for row in rows
        ]
    }


def _ratios(
    row: DetectorRow, rows: Sequence[DetectorRow], teachers: Mapping[str, str]
) -> list[str]:
    """Return a line for each batch size with a student's time over that of its teacher."""
    teacher = next((other for other in rows if other.name == teachers.get(row.name)), None)
    if teacher is None:
        return []
    return [
        f"batch {batch}: {row.name} takes {_paired(times, teacher.times[batch]):.2f} times as long "
        f"as its teacher {teacher.name}"
        for batch, times in row.times.items()
    ]


def _paired(over: LatencyTimes, under: LatencyTimes) -> float:
    """Return the median ratio of two detectors' times by round, so that drift cancels."""
    pairs = zip(over.prediction, under.prediction, strict=True)
    return statistics.median(above / below for above, below in pairs)


def _condition_lines(rows: Sequence[DetectorRow]) -> list[str]:
    """Return the conditions of all rows, once if they are equal."""
    conditions = dict.fromkeys(row.conditions for row in rows)
    if len(conditions) == 1:
        return [f"{next(iter(conditions)).describe()}; {_iterations(rows)}"]
    lines = [f"{row.name}: {row.conditions.describe()}" for row in rows]
    return [*lines, f"Conditions differ between rows; {_iterations(rows)}"]


def _iterations(rows: Sequence[DetectorRow]) -> str:
    count = len(next(iter(rows[0].times.values())).prediction)
    turns = ", detectors in turn" if len(rows) > 1 else ""
    return f"{count} batches of each size{turns}"


def _scaled(value: int | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:.3g}"
