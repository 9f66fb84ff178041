"""Resources that a training uses: time, GPU time, memory and energy, over all resumptions."""

import resource
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import pynvml
import torch
from mmengine.dist import all_gather_object


class UsedResources(NamedTuple):
    """Resources used so far; every checkpoint has them under these names."""

    seconds: float = 0.0
    gpu_seconds: float = 0.0
    """Seconds times GPUs, whose number may change from one resumption to the next."""
    energy_joules: float | None = 0.0
    """None if any part was not measured."""
    peak_memory_mb: int = 0
    """GPU memory of this process or, without a GPU, its resident memory."""

    @classmethod
    def read(cls, checkpoint: dict[str, Any]) -> Self:
        """Return the values in a checkpoint; early versions wrote the time alone."""
        values = {"energy_joules": None} | checkpoint
        return cls(**{name: values[name] for name in cls._fields if name in values})


class Meter:
    """Meter that adds to the resources of earlier resumptions; it measures only when it is read."""

    def __init__(self, gpus: Sequence[str], earlier: UsedResources) -> None:
        """Start measuring; ``gpus``: the UUIDs of the GPUs of all processes."""
        self.gpus, self.earlier = gpus, earlier
        self._start()

    @property
    def used(self) -> UsedResources:
        """Resources used until now."""
        seconds = time.monotonic() - self.started
        return UsedResources(
            self.earlier.seconds + seconds,
            self.earlier.gpu_seconds + seconds * len(self.gpus),
            self._energy(),
            max(self.earlier.peak_memory_mb, _peak_memory()),
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time and energy of a block that is no training."""
        self.earlier = self.used
        try:
            yield
        finally:
            self._start()

    def _start(self) -> None:
        self.started, self.counters = time.monotonic(), _energy_counters(self.gpus)

    def _energy(self) -> float | None:
        """Return the joules; None also if a counter was reset because its driver was reloaded."""
        if self.earlier.energy_joules is None or self.counters is None:
            return None
        millijoules = _energy_counters(self.gpus)
        if millijoules is None:
            return None
        used = [now - before for before, now in zip(self.counters, millijoules, strict=True)]
        return None if min(used) < 0 else self.earlier.energy_joules + sum(used) / 1000


def gpus_in_use() -> list[str]:
    """Return the UUID of each process's GPU; none on a CPU. All processes must call it."""
    uuid = str(torch.cuda.get_device_properties().uuid) if torch.cuda.is_available() else ""
    return [f"GPU-{uuid.removeprefix('GPU-')}" for uuid in all_gather_object(uuid) if uuid]


def _energy_counters(gpus: Collection[str]) -> list[int] | None:
    """Return the millijoules that each GPU, by UUID, has used since its driver was loaded.

    A counter (NVML, Volta or newer) covers a whole board, so each is read once however many
    processes share it. None without GPUs, or if one cannot be read: no driver, an older one,
    another machine's, or a part of a GPU (MIG).
    """
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(gpu) for gpu in sorted(set(gpus))]
        return [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles] or None
    except pynvml.NVMLError:
        return None


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
