"""What every system is given: the same images, batch, optimiser and place to write."""

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers.gate import Gate

OPTIMISER: dict[str, Any] = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 1e-4}
"""SGD of mmdet's schedules, so slow that random weights stay where they are."""


class Work(NamedTuple):
    """One system's part of the comparison."""

    images: Path
    folder: Path
    batch: int
    gate: Gate
