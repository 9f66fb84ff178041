"""How a training is made to take one step when told to, and to tell what it took."""

import json
import os
import resource
import sys
import time
from typing import Any

import torch

from kd.common.timing import synchronize


class Gate:
    """Stands where a step begins: answers that the last one is done, and waits for the next word.

    Answers go to what was standard output; what frameworks print goes to standard error.
    """

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)
        self.started = _clock()

    def wait(self, **facts: Any) -> str:
        """Tell time, memory and ``facts``; return what is asked next, and end where nothing is."""
        synchronize()
        told = {"seconds": _clock() - self.started, "peak_mb": _peak(), **facts}
        self.answers.write(json.dumps(told) + "\n")
        asked = sys.stdin.readline().strip()
        if not asked:
            raise SystemExit(0)
        self.started = _clock()
        return asked


def parameters(model: torch.nn.Module) -> int:
    """Return how many weights a model has, normalisation left out: it may be buffers."""
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    layers = (layer for layer in model.modules() if isinstance(layer, kinds))
    return sum(weight.numel() for layer in layers for weight in layer.parameters())


def _clock() -> float:
    """Return seconds: of the processor, which others on the machine slow less, or with a GPU."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def _peak() -> float:
    """Return the peak in MB: of GPU memory or, without a GPU, of resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
