"""Size and compute of the detectors of a table, in print."""

from collections.abc import Callable, Sequence

from analysis.tables.formatting import amount
from analysis.tables.rows import ResultRow
from kd.records.model_size import GIGA, MEGABYTE, MILLION, ModelSize

SIZES: dict[str, Callable[[ModelSize], float]] = {
    "Parameters, M": lambda size: size.parameters / MILLION,
    "GFLOPs": lambda size: size.multiply_adds / GIGA,
    "Weights, MB": lambda size: size.weight_bytes / MEGABYTE,
}
"""Columns of the size of a detector."""


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
