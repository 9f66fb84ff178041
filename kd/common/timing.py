"""Times that can be compared on a busy machine: cases in turn, ratios round by round."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch

from kd.common.progress import progress

Result = TypeVar("Result")


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
    """Return each case's seconds in every round, as ``results_in_turn``."""
    return results_in_turn({name: partial(timed, case) for name, case in cases.items()}, rounds)


def results_in_turn(
    cases: Mapping[str, Callable[[], Result]], rounds: int
) -> dict[str, list[Result]]:
    """Return each case's results of every round, all cases run once a round, in turn.

    One round before the first, for caches and allocators, is not counted.
    """
    found: dict[str, list[Result]] = {name: [] for name in cases}
    for number in progress(range(rounds + 1), rounds + 1, "rounds"):
        for name, case in cases.items():
            result = case()
            if number:
                found[name].append(result)
    return found


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
