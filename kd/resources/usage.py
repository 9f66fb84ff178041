"""What a training took, as it recorded it in ``provenance.json``."""

from pathlib import Path
from typing import NamedTuple

from kd.common.errors import UserError
from kd.common.files import read_json

JOULES = 3.6e6  # in a kWh


class Cost(NamedTuple):
    """What trainings took; prediction and evaluation, minutes after hours, are not counted."""

    hours: float
    """Wall time of the steps, those before a resumption included."""
    gpu_hours: float
    """Hours times GPUs; 0 on a CPU."""
    images_per_second: float | None
    """None where nothing was trained: published weights were imported."""
    memory_mb: int | None
    """Peak of the first process: of GPU memory or, on a CPU, of resident memory."""
    energy_kwh: float | None
    """Of the GPUs, as their driver counts; None where any part was not measured."""


def cost(run: Path) -> Cost | None:
    """Return what the training in a directory took; None before its end.

    UserError where its record is not one.
    """
    path = run / "provenance.json"
    if not path.exists():
        return None
    record = read_json(path)
    try:
        if "published_checkpoint" in record:
            return Cost(0.0, 0.0, None, None, 0.0)
        energy = record.get("energy_joules")
        return Cost(
            float(record["seconds"]) / 3600,
            float(record["gpu_seconds"]) / 3600,
            float(record["images_per_second"]),
            int(record["peak_memory_mb"]),
            None if energy is None else float(energy) / JOULES,
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not the record of a training; train again") from None
