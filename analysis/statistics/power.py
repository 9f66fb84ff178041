"""How many seeds a gain needs, given how far gains of this study spread over seeds so far."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from analysis.statistics.gains import paired_gains
from analysis.statistics.seeds import (
    POINTS,
    SIGNIFICANT,
    WORTH_FINDING,
    mean_std,
    seeds_needed,
)
from kd.config.plan import Plan
from kd.config.run import Run

POWER = 0.8
CONFIDENCE = 0.95
SURE = 10
"""Degrees of freedom from which a spread is told without a warning."""


class Spread(NamedTuple):
    """The standard deviation of a paired gain over seeds, in points, pooled over rows."""

    std: float
    df: int
    """Degrees of freedom: of n seeds of a row, n - 1."""
    rows: int
    paired: bool
    """Whether of gains; else it is sqrt(2) times that of baselines, as if runs of one seed had
    nothing in common."""

    @property
    def limits(self) -> tuple[float, float]:
        """The 95 % confidence interval of ``std``, from chi-squared."""
        from scipy.special import chdtri

        rest = (1 - CONFIDENCE) / 2
        low, high = (
            self.std * math.sqrt(self.df / float(chdtri(self.df, p))) for p in (rest, 1 - rest)
        )
        return low, high


def spread(plan: Plan, metric: str) -> Spread | None:
    """Return the spread of gains in ``metric`` over the runs that have metrics; None without any.

    The root of the mean variance of the rows, weighted by degrees of freedom. Of baselines where
    no distilled row has two seeds in common with its baseline.
    """
    gains, alone = {}, {}
    for row in plan.rows:
        if row.metric == metric and row.kind != "teacher":
            names = tuple(run.name for run in row.runs.values())
            if row.kind == "baseline":
                alone[names] = [*_figures(row.runs, metric).values()]
            else:
                baseline = _figures(row.baselines, metric)
                gains[names] = paired_gains(_figures(row.runs, metric), baseline)
    return _pooled(gains.values(), True) or _pooled(alone.values(), False)


def _figures(runs: Mapping[int, Run], metric: str) -> dict[int, float]:
    """Return the points of each seed whose run has been measured."""
    from kd.evaluation.metrics import Metrics

    paths = {seed: run.directory / "metrics.json" for seed, run in runs.items()}
    found = {seed: getattr(Metrics.read(path), metric) for seed, path in paths.items()
             if path.exists()}  # fmt: skip
    return {seed: POINTS * value for seed, value in found.items() if value is not None}


def _pooled(rows: Iterable[list[float]], paired: bool) -> Spread | None:
    known = [(found.n - 1, found.std) for found in map(mean_std, rows) if found.std is not None]
    if not known:
        return None
    df = sum(each for each, _ in known)
    variance = sum(each * std**2 for each, std in known) / df
    return Spread(math.sqrt(variance if paired else 2 * variance), df, len(known), paired)


def detectable(std: float, seeds: int, alpha: float = SIGNIFICANT) -> float | None:
    """Return the least gain, in the unit of ``std``, that so many seeds find; None of under two.

    The inverse of ``seeds_needed``, to a thousandth; ``alpha``: the level of the test.
    """
    if seeds < 2 or std == 0:
        return None if seeds < 2 else 0.0

    def missed(gain: float) -> bool:
        return seeds_needed(std, gain, alpha=alpha) > seeds

    low, high = 0.0, std
    while missed(high):
        low, high = high, 2 * high
    while high - low > high / 1000:
        middle = (low + high) / 2
        low, high = (middle, high) if missed(middle) else (low, middle)
    return high


def describe(plan: Plan) -> str:
    """Return how many seeds a gain of half a point needs, and what the planned ones can find."""
    return "\n".join(line for metric in _metrics(plan) for line in _lines(plan, metric))


def _metrics(plan: Plan) -> list[str]:
    return list(dict.fromkeys(row.metric for row in plan.rows if row.kind == "distilled"))


def _lines(plan: Plan, metric: str) -> Iterator[str]:
    found = spread(plan, metric)
    if found is None:
        yield f"No spread of {metric} measured yet: it takes two seeds of a baseline"
        return
    low, high = found.limits
    rows = f"{found.rows} row{'s' * (found.rows > 1)}, {found.df} degree{'s' * (found.df > 1)}"
    how = f"root mean square of {rows} of freedom; 95 % interval {low:.2f} to {high:.2f}"
    of = (
        "gains over the baseline" if found.paired else "a gain, if runs of one seed are independent"
    )
    yield f"Standard deviation of {of}: {found.std:.2f} {metric} ({how})"
    needed = f"{seeds_needed(found.std)} seeds"
    if found.df < SURE:
        needed += f" ({seeds_needed(low)} to {seeds_needed(high)} over that interval)"
    test = f"paired t test, level {SIGNIFICANT:g}, power {POWER:g}"
    yield f"A gain of {WORTH_FINDING:g} {metric} takes {needed} to be found ({test})"
    planned = {len(row.runs) for row in plan.rows if row.kind == "distilled"}
    for seeds in sorted(planned):
        gain = detectable(found.std, seeds)
        what = "no gain: it takes two" if gain is None else f"a gain of {gain:.1f} {metric} or more"
        yield f"{seeds} seed{'s' * (seeds > 1)}, as planned, find{'s' * (seeds == 1)} {what}"
