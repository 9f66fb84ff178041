"""The most memory that tensors take at once while something runs."""

import os
from collections.abc import Callable
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

from kd.timing import synchronise


def peak(work: Callable[[], object]) -> int:
    """Return the bytes of tensors at their peak, above what there was before ``work``.

    Of a GPU, what its allocator counted. Of a CPU, the sum of what torch's profiler tells of each
    block that is allocated and freed: temporaries of an operator too, but not what libraries below
    torch allocate for themselves, nor that a block of before is freed.
    """
    return _of_gpu(work) if torch.cuda.is_available() else _of_cpu(work)


def _of_gpu(work: Callable[[], object]) -> int:
    synchronise()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    synchronise()
    return torch.cuda.max_memory_allocated() - before


def _of_cpu(work: Callable[[], object]) -> int:
    os.environ.setdefault(
        "KINETO_LOG_LEVEL", "5"
    )  # it tells everybody without a GPU that there is none
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as done:
        work()
    events = done.profiler.kineto_results.events()  # type: ignore[union-attr]
    blocks = [event for event in events if event.name() == "[memory]"]
    blocks.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in blocks), initial=0))
