"""Power of a study: the seeds that a gain needs, given the variation of gains over seeds."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from analysis.statistics.gains import paired_gains
from analysis.statistics.seeds import POINTS, SIGNIFICANT, WORTH_FINDING, mean_std, seeds_needed
from kd.config.plan import Plan
from kd.config.run import Run

POWER = 0.8
CONFIDENCE = 0.95
MANY_DEGREES = 10
"""Degrees of freedom from which the number of seeds is printed without its range."""


class GainSpread(NamedTuple):
    """The standard deviation of a paired gain over seeds, in points, pooled over rows."""

    std: float
    df: int
    """Degrees of freedom: n - 1 for a row of n seeds."""
    rows: int
    paired: bool
    """True if measured from gains. Else ``std`` is sqrt(2) times that of baselines, as if runs of
    one seed were independent."""

    @property
    def limits(self) -> tuple[float, float]:
        """The 95 % confidence interval of ``std``, from chi-squared."""
        from scipy.special import chdtri

        tail = (1 - CONFIDENCE) / 2
        low, high = (
            self.std * math.sqrt(self.df / float(chdtri(self.df, p))) for p in (tail, 1 - tail)
        )
        return low, high


def gain_spread(plan: Plan, metric: str) -> GainSpread | None:
    """Return the spread of gains in ``metric`` over the measured runs; None without any.

    The spread is the root of the mean variance of the rows, weighted by degrees of freedom. It is
    that of baselines if no distilled row shares two seeds with its baseline.
    """
    gains, baselines = {}, {}
    for row in plan.rows:
        if row.metric == metric and row.kind != "teacher":
            run_names = tuple(run.name for run in row.runs.values())
            points = _points(row.runs, metric)
            if row.kind == "baseline":
                baselines[run_names] = [*points.values()]
            else:
                gains[run_names] = paired_gains(points, _points(row.baselines, metric))
    return _pooled(gains.values(), True) or _pooled(baselines.values(), False)


def _points(runs: Mapping[int, Run], metric: str) -> dict[int, float]:
    """Return a metric in AP points of each seed whose run is measured."""
    from kd.evaluation.metrics import Metrics

    paths = {seed: run.directory / "metrics.json" for seed, run in runs.items()}
    fractions = {
        seed: getattr(Metrics.read(path), metric) for seed, path in paths.items() if path.exists()
    }
    return {seed: POINTS * value for seed, value in fractions.items() if value is not None}


def _pooled(rows: Iterable[list[float]], paired: bool) -> GainSpread | None:
    row_spreads = [(n - 1, std) for _, std, n in map(mean_std, rows) if std is not None]
    if not row_spreads:
        return None
    df = sum(row_df for row_df, _ in row_spreads)
    variance = sum(row_df * std**2 for row_df, std in row_spreads) / df
    # The variance of a difference of two independent runs is twice that of one.
    std = math.sqrt(variance if paired else 2 * variance)
    return GainSpread(std, df, len(row_spreads), paired)


def detectable(std: float, seeds: int, alpha: float = SIGNIFICANT) -> float | None:
    """Return the smallest gain, in the unit of ``std``, that ``seeds`` seeds detect.

    It is the inverse of ``seeds_needed``, to a thousandth; ``alpha``: the level of the test. None
    with fewer than two seeds.
    """
    if seeds < 2 or std == 0:
        return None if seeds < 2 else 0.0

    def missed(gain: float) -> bool:
        return seeds_needed(std, gain, alpha=alpha) > seeds

    # Fewer seeds suffice for a larger gain: bracket the smallest one, then bisect.
    low, high = 0.0, std
    while missed(high):
        low, high = high, 2 * high
    while high - low > high / 1000:
        middle = (low + high) / 2
        low, high = (middle, high) if missed(middle) else (low, middle)
    return high


def describe(plan: Plan) -> str:
    """Return the seeds that a gain of half a point needs, and what the planned ones detect."""
    return "\n".join(line for metric in _metrics(plan) for line in _lines(plan, metric))


def _metrics(plan: Plan) -> list[str]:
    return list(dict.fromkeys(row.metric for row in plan.rows if row.kind == "distilled"))


def _lines(plan: Plan, metric: str) -> Iterator[str]:
    spread = gain_spread(plan, metric)
    if spread is None:
        yield (
            f"Cannot estimate the variation of {metric} between seeds: "
            "run at least two baseline seeds."
        )
        return
    low, high = spread.limits
    rows = f"{spread.rows} row{'s' * (spread.rows > 1)}"
    degrees = f"{spread.df} degree{'s' * (spread.df > 1)} of freedom"
    quantity = "gains" if spread.paired else "a gain, if runs of one seed are independent"
    yield (
        f"Standard deviation of {quantity}: {spread.std:.2f} {metric} (root mean square of {rows}, "
        f"{degrees}; 95 % interval {low:.2f} to {high:.2f})."
    )
    needed = f"{seeds_needed(spread.std)} seeds"
    if spread.df < MANY_DEGREES:
        needed += f" ({seeds_needed(low)} to {seeds_needed(high)} over that interval)"
    test = f"paired t test, level {SIGNIFICANT:g}, power {POWER:g}"
    yield f"Detecting a gain of {WORTH_FINDING:g} {metric} takes {needed}; {test}."
    for seeds in sorted({len(row.runs) for row in plan.rows if row.kind == "distilled"}):
        yield _detectable_line(spread.std, seeds, metric)


def _detectable_line(std: float, seeds: int, metric: str) -> str:
    gain = detectable(std, seeds)
    if gain is None:
        return f"With the planned {seeds} seed, no gain is detectable: plan at least two."
    return f"With the planned {seeds} seeds, the smallest detectable gain is {gain:.1f} {metric}."
