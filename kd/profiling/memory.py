"""The most memory that tensors take at once while something runs."""

import os
import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

from kd.common.timing import synchronize
from kd.profiling.clock import Clock


def peak(work: Callable[[], object]) -> int:
    """Return the bytes of tensors at their peak, above what there was before ``work``.

    Of a GPU, what its allocator counted. Of a CPU, the sum of what torch's profiler tells of each
    block that is allocated and freed: temporaries of an operator too, but not what libraries below
    torch allocate for themselves, nor that a block of before is freed.
    """
    return _of_gpu(work) if torch.cuda.is_available() else _of_cpu(work)


def peaks(work: Callable[[], object], clock: Clock) -> dict[str, int]:
    """Return the same by the part of ``clock`` that was open, of which ``work`` is made up."""
    found: dict[str, int] = {}
    try:
        (_by_part_of_gpu if torch.cuda.is_available() else _by_part_of_cpu)(work, clock, found)
    finally:
        clock.switched = None
    return found


def _of_gpu(work: Callable[[], object]) -> int:
    before = _begin_on_gpu()
    work()
    synchronize()
    return torch.cuda.max_memory_allocated() - before


def _by_part_of_gpu(work: Callable[[], object], clock: Clock, found: dict[str, int]) -> None:
    before = _begin_on_gpu()

    def switched(part: str) -> None:
        found[part] = max(found.get(part, 0), torch.cuda.max_memory_allocated() - before)
        torch.cuda.reset_peak_memory_stats()

    clock.switched = switched
    work()


def _begin_on_gpu() -> int:
    synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _of_cpu(work: Callable[[], object]) -> int:
    return max((size for _, size in _sizes(work)), default=0)


def _by_part_of_cpu(work: Callable[[], object], clock: Clock, found: dict[str, int]) -> None:
    ends: list[tuple[int, str]] = []
    clock.switched = lambda part: ends.append((time.time_ns(), part))
    sizes, size = _sizes(work), 0
    for end, part in ends:
        found[part] = max(found.get(part, 0), size)
        while sizes and sizes[0][0] <= end:
            size = sizes.popleft()[1]
            found[part] = max(found[part], size)


def _sizes(work: Callable[[], object]) -> deque[tuple[int, int]]:
    """Return when a block was allocated or freed, in nanoseconds, and the bytes there were then."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # it would tell that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as done:
        work()
    events = done.profiler.kineto_results.events()  # type: ignore[union-attr]
    blocks = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    return deque(zip((t for t, _ in blocks), accumulate(b for _, b in blocks), strict=True))
