"""Size and latency of a detector in its model card."""

from analysis.card.record import CardRecord
from analysis.card.tables import table
from kd.records.model_size import GIGA, MEGABYTE, MILLION


def speed(record: CardRecord) -> str:
    """Return parameters, compute, bytes and latency."""
    size = record.size
    file_bytes = (record.directory / "weights.pth").stat().st_size
    rows = [["size of `weights.pth`", f"{file_bytes / MEGABYTE:.3g} MB"]]
    if size:
        rows = [
            ["parameters", f"{size.parameters / MILLION:.2f} million"],
            [
                f"multiply-adds for an image of {size.width} x {size.height} pixels",
                f"{size.multiply_adds / GIGA:.3g} billion",
            ],
            ["bytes of the tensors", f"{size.weight_bytes / MEGABYTE:.3g} MB"],
            *rows,
        ]
    return table(["", ""], rows)
