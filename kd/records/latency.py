"""``latency.json``: inference latency of the detector of a run, measured by ``kd latency``."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from kd.common.errors import UserError
from kd.common.files import read_json, write_json

FILE = "latency.json"


class Conditions(NamedTuple):
    """Conditions that must be equal for two latencies to be compared."""

    device: str
    """Name of the GPU or the processor."""
    runtime: str
    """Library that computes the network, with its version."""
    threads: int | None
    """CPU threads of the network; None on a GPU."""
    width: int
    """Width in pixels of the network's images."""
    height: int
    images: str
    """Origin of the images."""

    def describe(self) -> str:
        """Return the conditions as a clause."""
        threads = {None: "", 1: ", 1 thread"}.get(self.threads, f", {self.threads} threads")
        return (
            f"{self.width} x {self.height} pixels, {self.device}{threads}, {self.runtime}, "
            f"{self.images}"
        )


class BatchLatency(NamedTuple):
    """Times of one batch size, in milliseconds for the whole batch."""

    batch: int
    """Images of a batch."""
    median_ms: float
    """Network and post-processing."""
    p95_ms: float
    """Time that 95 % of the batches do not exceed."""
    preprocessing_ms: float
    """Median time of resizing and packing the images, on top of ``median_ms``."""
    iterations: int

    @property
    def images_per_second(self) -> float:
        """Images a second of batches one after the other, without preprocessing."""
        return 1000 * self.batch / self.median_ms


class Latency(NamedTuple):
    """Latency of a detector by batch size."""

    conditions: Conditions
    batches: tuple[BatchLatency, ...]
    """In ascending order of their batch."""
    measured: str
    """Time in UTC at which the command began; detectors with the same one ran in turn."""


def write_latency(run: Path, latency: Latency, facts: dict[str, Any]) -> None:
    """Write the latency of a run with further facts, such as machine and versions."""
    content = {
        "measured": latency.measured,
        **latency.conditions._asdict(),
        "batches": [
            {**one._asdict(), "images_per_second": one.images_per_second} for one in latency.batches
        ],
    }
    write_json(run / FILE, content | facts)


def read_latency(run: Path) -> Latency | None:
    """Return the latency of a run; None without one, and if the run was trained again since.

    UserError if the file cannot be read.
    """
    path = run / FILE
    if not path.exists():
        return None
    record = read_json(path)
    try:
        if record["weights_sha256"] != _weights_digest(run):
            return None
        batches = tuple(
            BatchLatency(**{name: one[name] for name in BatchLatency._fields})
            for one in record["batches"]
        )
        conditions = Conditions(**{name: record[name] for name in Conditions._fields})
        if not _are_conditions(conditions) or not all(map(_is_measured, batches)):
            raise TypeError
        return Latency(conditions, batches, record["measured"]) if batches else None
    except (KeyError, TypeError):
        raise UserError(f"{path}: not the latency of a detector; run `kd latency {run}`") from None


def _are_conditions(conditions: Conditions) -> bool:
    device, runtime, threads, *size, images = conditions
    numbers = [one for one in (threads, *size) if one is not None]
    are_texts = all(isinstance(one, str) for one in (device, runtime, images))
    return are_texts and None not in size and all(type(one) is int for one in numbers)


def _is_measured(one: BatchLatency) -> bool:
    """Return True if all values are numbers, and the times of the network above 0."""
    is_number = all(type(value) in (int, float) and math.isfinite(value) for value in one)
    return is_number and one.batch > 0 and one.median_ms > 0 and one.p95_ms > 0


def _weights_digest(run: Path) -> str | None:
    """Return the SHA-256 of a run's weights as its training recorded it."""
    path = run / "provenance.json"
    return read_json(path).get("weights_sha256") if path.exists() else None
