"""Input of every system: the same images, batch size, optimizer and a folder to write in."""

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers.gate import Gate

OPTIMIZER: dict[str, Any] = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 1e-4}
"""SGD of mmdet's schedules, with a learning rate that hardly changes random weights."""


class Work(NamedTuple):
    """One system's part of the comparison."""

    images: Path
    folder: Path
    batch: int
    gate: Gate
