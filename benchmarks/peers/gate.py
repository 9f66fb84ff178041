"""Gate before each step of a training, which waits for requests and reports times."""

import json
import os
import resource
import sys
import time
from typing import Any

import torch

from kd.common.timing import synchronize


class Gate:
    """Gate at the start of a step, which reports the previous step and waits for a request.

    Reports are written to the original standard output; prints of frameworks go to standard error.
    """

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)
        self.started = _clock()

    def wait(self, **facts: Any) -> str:
        """Report time, memory and ``facts``; return the next request, or exit if there is none."""
        synchronize()
        answer = {"seconds": _clock() - self.started, "peak_mb": _peak(), **facts}
        self.answers.write(json.dumps(answer) + "\n")
        request = sys.stdin.readline().strip()
        if not request:
            raise SystemExit(0)
        self.started = _clock()
        return request


def parameters(model: torch.nn.Module) -> int:
    """Return the number of weights of a model, without normalization, which may be buffers."""
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    layers = (layer for layer in model.modules() if isinstance(layer, kinds))
    return sum(weight.numel() for layer in layers for weight in layer.parameters())


def _clock() -> float:
    """Return seconds: of the wall clock with a GPU, otherwise of the processor."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def _peak() -> float:
    """Return the peak of GPU memory or, without a GPU, of resident memory, in MB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
