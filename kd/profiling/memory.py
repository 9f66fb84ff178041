"""Peak memory of tensors while a function runs."""

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
    """Return the bytes of tensors at their peak, in excess of those before ``work``.

    On a GPU its allocator counts them. On a CPU they are summed from the allocations and frees in
    torch's profile. These include temporaries of operators. They do not include memory that
    libraries below torch allocate, nor frees of blocks that existed before.
    """
    if not torch.cuda.is_available():
        return max((size for _, size in _sizes(work)), default=0)
    before = _begin_on_gpu()
    work()
    synchronize()
    return torch.cuda.max_memory_allocated() - before


def peaks(work: Callable[[], object], clock: Clock) -> dict[str, int]:
    """Return the bytes at the peak of each part of ``clock`` that ``work`` runs."""
    by_part: dict[str, int] = {}
    try:
        (_by_part_of_gpu if torch.cuda.is_available() else _by_part_of_cpu)(work, clock, by_part)
    finally:
        clock.switched = None
    return by_part


def _by_part_of_gpu(work: Callable[[], object], clock: Clock, by_part: dict[str, int]) -> None:
    before = _begin_on_gpu()

    def switched(part: str) -> None:
        by_part[part] = max(by_part.get(part, 0), torch.cuda.max_memory_allocated() - before)
        torch.cuda.reset_peak_memory_stats()

    clock.switched = switched
    work()


def _begin_on_gpu() -> int:
    synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _by_part_of_cpu(work: Callable[[], object], clock: Clock, by_part: dict[str, int]) -> None:
    ends: list[tuple[int, str]] = []
    clock.switched = lambda part: ends.append((time.time_ns(), part))
    sizes, size = _sizes(work), 0
    for end, part in ends:
        by_part[part] = max(by_part.get(part, 0), size)
        while sizes and sizes[0][0] <= end:
            size = sizes.popleft()[1]
            by_part[part] = max(by_part[part], size)


def _sizes(work: Callable[[], object]) -> deque[tuple[int, int]]:
    """Return the time in nanoseconds of each allocation or free, and the bytes after it."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # otherwise it warns that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as done:
        work()
    events = done.profiler.kineto_results.events()  # type: ignore[union-attr]
    blocks = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    return deque(zip((t for t, _ in blocks), accumulate(b for _, b in blocks), strict=True))
