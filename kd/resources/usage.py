"""Resource usage of a training, as ``provenance.json`` records it."""

from pathlib import Path
from typing import NamedTuple

from kd.common.errors import UserError
from kd.common.files import read_json

JOULES_PER_KWH = 3.6e6


class Usage(NamedTuple):
    """Resources that trainings used, without prediction and evaluation, which take minutes."""

    hours: float
    """Wall time of the steps, including those before a resumption."""
    gpu_hours: float
    """Hours times GPUs; 0 on a CPU."""
    images_per_second: float | None
    """None if published weights were imported in place of a training."""
    memory_mb: int | None
    """Peak of the first process: GPU memory or, on a CPU, resident memory."""
    energy_kwh: float | None
    """Energy of the GPUs as their driver counts it; None if any part was not measured."""


def read_usage(run: Path) -> Usage | None:
    """Return the usage of the training in a directory; None before its end.

    UserError if its record cannot be read.
    """
    path = run / "provenance.json"
    if not path.exists():
        return None
    record = read_json(path)
    try:
        if "published_checkpoint" in record:
            return Usage(0.0, 0.0, None, None, 0.0)
        joules = record.get("energy_joules")
        return Usage(
            hours=float(record["seconds"]) / 3600,
            gpu_hours=float(record["gpu_seconds"]) / 3600,
            images_per_second=float(record["images_per_second"]),
            memory_mb=int(record["peak_memory_mb"]),
            energy_kwh=None if joules is None else float(joules) / JOULES_PER_KWH,
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not the record of a training; train again") from None
