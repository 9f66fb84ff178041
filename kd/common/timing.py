"""Timer for a busy machine: it runs cases alternately and compares them round by round."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch

from kd.common.progress import progress

Result = TypeVar("Result")


class Quartiles(NamedTuple):
    """A median, quartiles and the number of measurements."""

    median: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""
    rounds: int


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the median and quartiles of at least one value."""
    median = statistics.median(values)
    if len(values) == 1:
        return Quartiles(median, median, median, 1)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(median, low, high, len(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> Quartiles:
    """Return the ratio of two cases of ``in_turn`` by round, so that drift cancels."""
    return quartiles([above / below for above, below in zip(over, under, strict=True)])


def in_turn(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each case in every round, as ``results_in_turn`` runs them."""
    return results_in_turn({name: partial(timed, case) for name, case in cases.items()}, rounds)


def results_in_turn(
    cases: Mapping[str, Callable[[], Result]], rounds: int
) -> dict[str, list[Result]]:
    """Run all cases once per round, in turn, and return each case's result of every round.

    The results of a first round, which fills caches and allocators, are dropped.
    """
    results: dict[str, list[Result]] = {name: [] for name in cases}
    for number in progress(range(rounds + 1), rounds + 1, "rounds"):
        for name, case in cases.items():
            result = case()
            if number:
                results[name].append(result)
    return results


def timed(case: Callable[[], object]) -> float:
    """Return the seconds that a case takes, its work on the GPU included."""
    synchronize()
    started = time.perf_counter()
    case()
    synchronize()
    return time.perf_counter() - started


def synchronize() -> None:
    """Wait until the GPU, if any, is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
