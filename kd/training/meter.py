"""What a training takes: time, GPU time, memory and energy, over all its resumptions."""

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from mmengine.dist import all_gather_object

from kd.training.energy import counters


class Spent(NamedTuple):
    """What has been taken so far; part of every checkpoint, by these names."""

    seconds: float = 0.0
    gpu_seconds: float = 0.0
    """Seconds times GPUs, whose number may change from one resumption to the next."""
    energy_joules: float | None = 0.0
    """None as soon as any part was not measured."""
    peak_memory_mb: int = 0
    """Of this process: of GPU memory or, without a GPU, of resident memory."""

    @classmethod
    def read(cls, checkpoint: dict[str, Any]) -> Self:
        """Return what a checkpoint says; one from before there were meters tells the time alone."""
        known = {"energy_joules": None} | checkpoint
        return cls(**{name: known[name] for name in cls._fields if name in known})


class Meter:
    """Goes on from what was spent before. It is read now and then; between, it costs nothing."""

    def __init__(self, gpus: Sequence[str], spent: Spent) -> None:
        """``gpus``: UUIDs of those of all processes."""
        self.gpus, self.earlier = gpus, spent
        self._start()

    @property
    def spent(self) -> Spent:
        """What has been taken until now."""
        seconds = time.monotonic() - self.started
        return Spent(
            self.earlier.seconds + seconds,
            self.earlier.gpu_seconds + seconds * len(self.gpus),
            self._energy(),
            max(self.earlier.peak_memory_mb, _peak_memory()),
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time and energy of a block, in which something else than training runs."""
        self.earlier = self.spent
        try:
            yield
        finally:
            self._start()

    def _start(self) -> None:
        self.started, self.counted = time.monotonic(), counters(self.gpus)

    def _energy(self) -> float | None:
        """Return the joules; unknown also where a counter began anew, its driver loaded again."""
        if self.earlier.energy_joules is None or self.counted is None:
            return None
        counted = counters(self.gpus)
        if counted is None:
            return None
        drawn = [now - before for before, now in zip(self.counted, counted, strict=True)]
        return None if min(drawn) < 0 else self.earlier.energy_joules + sum(drawn) / 1000


def gpus_in_use() -> list[str]:
    """Return the UUIDs of the GPUs of all processes, one each; none on a CPU. All must call it."""
    own = str(torch.cuda.get_device_properties().uuid) if torch.cuda.is_available() else ""
    return [f"GPU-{uuid.removeprefix('GPU-')}" for uuid in all_gather_object(own) if uuid]


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
