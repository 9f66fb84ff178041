"""Size, compute and inference latency of the detectors of a table, in print.

A table shows latencies of one set of conditions only: device, runtime, threads, image size, images
and batch sizes. Cells of other rows are empty, and a note names the difference.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from analysis.tables.formatting import amount
from analysis.tables.rows import ResultRow
from kd.common.lists import enumerate_names
from kd.records.latency import Latency
from kd.records.model_size import GIGA, MEGABYTE, MILLION, ModelSize

SIZES: dict[str, Callable[[ModelSize], float]] = {
    "Parameters, M": lambda size: size.parameters / MILLION,
    "GFLOPs": lambda size: size.multiply_adds / GIGA,
    "Weights, MB": lambda size: size.weight_bytes / MEGABYTE,
}
"""Columns of the size of a detector."""
MILLISECONDS, RATE = "Inference, ms", "Inference images/s"
"""Columns: time of the smallest batch, and rate of the largest."""
LATENCIES: dict[str, Callable[[Latency], float | None]] = {
    MILLISECONDS: lambda latency: latency.batches[0].median_ms,
    RATE: lambda latency: (
        latency.batches[-1].images_per_second if len(latency.batches) > 1 else None
    ),
}
"""Columns of the latency of a detector."""


def size_cells(size: ModelSize | None) -> dict[str, str]:
    """Return the size of a row's detector as text by column; empty without a size."""
    return {} if size is None else {name: amount(value(size)) for name, value in SIZES.items()}


def size_notes(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line that defines the columns of sizes; none without a size."""
    sizes = [row.size for row in rows if row.size]
    if not sizes:
        return []
    images = dict.fromkeys(f"{size.width} x {size.height}" for size in sizes)
    return [
        "Parameters, GFLOPs and weights: of the row's detector at test time, without teacher and "
        "adaptation layers. GFLOPs: billion multiply-adds for one test image of "
        f"{' or '.join(images)} pixels."
    ]


def shown_latency(row: ResultRow, rows: Sequence[ResultRow]) -> Latency | None:
    """Return the latency of a row of a table; None if most rows have other conditions."""
    latency = row.latency
    return latency if latency and _comparison_key(latency) == _most_common(rows) else None


def latency_cells(row: ResultRow, rows: Sequence[ResultRow]) -> dict[str, str]:
    """Return the latency of a row as text by column; empty without a comparable one."""
    latency = shown_latency(row, rows)
    return {} if latency is None else {name: amount(of(latency)) for name, of in LATENCIES.items()}


def latency_notes(rows: Sequence[ResultRow]) -> list[str]:
    """Return lines that define the columns and name rows left out; none without a latency."""
    latencies = [latency for row in rows if (latency := shown_latency(row, rows))]
    if not latencies:
        return []
    first = latencies[0]
    images = _images(first.batches[0].batch)
    lines = [
        f"{MILLISECONDS}: median time of the row's detector for {images}, from the resized image "
        f"to boxes, at {first.conditions.describe()}. It is measured by `kd latency` after the "
        "training, whose speed is another column."
    ]
    if len(first.batches) > 1:
        lines[0] += f" {RATE}: in batches of {first.batches[-1].batch}."
    commands = len({latency.measured for latency in latencies})
    if commands > 1:
        lines.append(
            f"Latencies come from {commands} commands. The machine's speed may have changed "
            "between them; measure all rows by one `kd latency`."
        )
    return [*lines, *_left_out(rows)]


def _left_out(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line for each set of other conditions, with its rows."""
    others: dict[Any, list[ResultRow]] = {}
    for row in rows:
        if row.latency and not shown_latency(row, rows):
            others.setdefault(_comparison_key(row.latency), []).append(row)
    return [
        f"The inference of {enumerate_names(dict.fromkeys(row.label for row in members))} is left "
        f"out: it was measured at {conditions.describe()}, batches of {enumerate_names(batches)}."
        for (conditions, batches), members in others.items()
    ]


def _most_common(rows: Sequence[ResultRow]) -> Any:
    """Return the conditions of most rows, of the first among equals; None without a latency."""
    counts = Counter(_comparison_key(row.latency) for row in rows if row.latency)
    return max(counts, key=counts.__getitem__, default=None)


def _comparison_key(latency: Latency) -> tuple[Any, tuple[int, ...]]:
    return latency.conditions, tuple(one.batch for one in latency.batches)


def _images(batch: int) -> str:
    return "one image" if batch == 1 else f"a batch of {batch} images"
