"""Times that can be compared on a busy machine: cases in turn, ratios round by round."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from kd.data.progress import progress


class Spread(NamedTuple):
    """A median with the middle half of its measurements."""

    median: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""
    rounds: int


def spread(values: Sequence[float]) -> Spread:
    """Return the median and quartiles of at least one value."""
    median = statistics.median(values)
    if len(values) == 1:
        return Spread(median, median, median, 1)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Return the ratio of two cases of ``in_turn``, round by round, so that drift cancels."""
    return spread([above / below for above, below in zip(over, under, strict=True)])


def in_turn(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return each case's seconds in every round, all cases run once a round, in turn.

    One round before the first, for caches and allocators, is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in progress(range(rounds + 1), rounds + 1, "rounds"):
        for name, case in cases.items():
            seconds = timed(case)
            if number:
                times[name].append(seconds)
    return times


def timed(case: Callable[[], object]) -> float:
    """Return the seconds until a case is done, on the GPU too."""
    synchronise()
    started = time.perf_counter()
    case()
    synchronise()
    return time.perf_counter() - started


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
