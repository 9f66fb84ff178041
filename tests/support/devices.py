"""Batches on a device, and the waits of the host for a GPU."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from kd.observers import Batch
from kd.profiling.synchronizations import synchronizations

SYNCHRONIZING = "called a synchronizing CUDA operation"


class Waits:
    """Waits of the host for a GPU: those that the project counts and those that torch warns of."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.counts: Counter[str] = Counter()
        self.warned: list[str] = []
        """File and line of each warning; none on a CPU."""

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the waits of a block."""
        with synchronizations() as counts, self._warning():
            yield
        self.counts += counts

    @contextmanager
    def _warning(self) -> Iterator[None]:
        if self.device == "cpu":
            yield
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")
        messages = [warning for warning in caught if SYNCHRONIZING in str(warning.message)]
        self.warned += [f"{warning.filename}:{warning.lineno}" for warning in messages]


def on_device(batch: Batch, device: str) -> Batch:
    """Return a batch with images and boxes on a device."""
    samples = [sample.to(device) for sample in batch.samples]
    moved: dict[str, Any] = {"inputs": batch.inputs.to(device), "samples": samples}
    return replace(batch, **moved)
