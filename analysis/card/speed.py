"""Size and latency of a detector in its model card, beside those of its teacher."""

from collections.abc import Iterator

from analysis.card.record import CardRecord
from analysis.card.tables import table
from kd.records.latency import Latency, read_latency
from kd.records.model_size import GIGA, MEGABYTE, MILLION, ModelSize, read_size


def speed(record: CardRecord) -> str:
    """Return parameters, compute, bytes and latency."""
    sizes = [record.size, read_size(record.teacher) if record.teacher else None]
    header = ["", "this detector", *(["teacher"] if sizes[1] else [])]
    file_bytes = (record.directory / "weights.pth").stat().st_size
    rows = [[name, *values] for name, *values in _size_rows([size for size in sizes if size])]
    rows.append(["size of `weights.pth`", f"{file_bytes / MEGABYTE:.3g} MB"])
    width = len(header)
    filled = [[*row, *[""] * (width - len(row))] for row in rows]
    return f"{table(header, filled, 1)}\n\n{_latency_text(record)}"


def _size_rows(sizes: list[ModelSize]) -> Iterator[list[str]]:
    if not sizes:
        return
    first = sizes[0]
    yield ["parameters", *(f"{size.parameters / MILLION:.2f} million" for size in sizes)]
    yield [
        f"multiply-adds for an image of {first.width} x {first.height} pixels",
        *(f"{size.multiply_adds / GIGA:.3g} billion" for size in sizes),
    ]
    yield ["bytes of the tensors", *(f"{size.weight_bytes / MEGABYTE:.3g} MB" for size in sizes)]


def _latency_text(record: CardRecord) -> str:
    """Return a table of latencies, or the command that measures them."""
    latency = read_latency(record.directory)
    if latency is None:
        return "The latency was not measured: `kd latency` measures it on a device."
    teacher = read_latency(record.teacher) if record.teacher else None
    medians = _medians(teacher) if teacher and teacher.measured == latency.measured else {}
    header = ["images of a batch", "median ms", "95th percentile ms", "images a second"]
    rows = [
        [
            str(one.batch),
            f"{one.median_ms:.1f}",
            f"{one.p95_ms:.1f}",
            f"{one.images_per_second:.1f}",
            *([f"{medians[one.batch]:.1f}"] if one.batch in medians else [""] * bool(medians)),
        ]
        for one in latency.batches
    ]
    titles = [*header, *(["teacher's median ms"] if medians else [])]
    conditions = (
        f"Latency of network and post-processing, at {latency.conditions.describe()}. It differs "
        "on other devices and for other image sizes."
    )
    return f"{conditions}\n\n{table(titles, rows, 1)}"


def _medians(latency: Latency) -> dict[int, float]:
    return {one.batch: one.median_ms for one in latency.batches}
