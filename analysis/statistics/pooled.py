"""Gains of all methods of a table cell, from one additive model of its runs.

A cell holds the runs of one detector, schedule and pair: the baseline and each method, for several
seeds. The model of their AP is

    AP[row, seed] = row + seed + error

with normal errors of one variance (two-way analysis of variance without interaction; Scheffe, The
Analysis of Variance, 1959, chapter 4). It is fitted by least squares, so runs may be missing. All
rows together estimate the residual variance, which gives its estimate many degrees of freedom.
Dunnett's intervals cover the gains of all planned rows at once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.statistics import dunnett
from analysis.statistics.seeds import ROUNDING, Interval
from kd.evaluation.voc import Floats, Integers

CONFIDENCE = 0.95


class PooledGain(NamedTuple):
    """The gain of a method over the baseline in AP points, and its inference."""

    mean: float
    standard_error: float
    df: float
    """Degrees of freedom of the standard error."""
    over_seeds: Interval
    """Simultaneous 95 % interval: those of all planned rows cover together."""
    p: float
    """Two-sided p of this gain alone."""
    p_adjusted: float
    """p adjusted for all planned rows: below 0.05 if the interval excludes 0."""


class Family(NamedTuple):
    """The planned rows that are tested together."""

    baseline: Collection[int]
    """Planned seeds of the baseline."""
    methods: Mapping[str, Collection[int]]
    """Planned seeds of each method."""
    cells: int = 1
    """Cells of the table, each with its own model; the family is the table (Sidak)."""


@dataclass(frozen=True)
class CellDesign:
    """The runs of a cell as linear maps from their AP to gains and residuals."""

    methods: tuple[str, ...]
    row: Integers
    """(N,): the row of each run; 0 is the baseline, k + 1 is ``methods[k]``."""
    seed: Integers
    """(N,): the seed of each run."""
    gains: Floats
    """(K, N): least-squares gains are ``gains @ points``."""
    residuals: Floats
    """(N, N): residuals are ``residuals @ points``."""
    df: int
    """Residual degrees of freedom."""

    @classmethod
    def of(cls, baseline: Collection[int], methods: Mapping[str, Collection[int]]) -> "CellDesign":
        """Return the design of runs with these seeds.

        Methods that no chain of shared seeds connects with the baseline have no gain and are left
        out.
        """
        connected = _connected(baseline, methods)
        rows = [baseline, *(methods[name] for name in connected)]
        runs = [(row, seed) for row, seeds in enumerate(rows) for seed in sorted({*seeds})]
        row, seed = np.array(runs, dtype=np.int64).reshape(-1, 2).T
        columns = np.unique(seed, return_inverse=True)[1]
        model = np.hstack([np.eye(len(rows))[row], np.eye(len(runs))[columns]])
        inverse = np.linalg.pinv(model)
        gains = inverse[1 : len(rows)] - inverse[:1]
        residuals = np.eye(len(runs)) - model @ inverse
        return cls(tuple(connected), row, seed, gains, residuals, round(np.trace(residuals)))

    @property
    def covariance(self) -> Floats:
        """(K, K): covariance of the gains, in units of the residual variance."""
        return self.gains @ self.gains.T

    @property
    def correlation(self) -> Floats:
        """(K, K): correlation of the gains."""
        deviation = np.sqrt(np.diag(self.covariance))
        return self.covariance / np.outer(deviation, deviation)


def _connected(baseline: Collection[int], methods: Mapping[str, Collection[int]]) -> list[str]:
    """Return the methods that share a seed with the baseline, or with such a method."""
    reachable, size = {*baseline}, -1
    while size != len(reachable):
        size = len(reachable)
        for seeds in methods.values():
            if reachable & {*seeds}:
                reachable |= {*seeds}
    return [name for name, seeds in methods.items() if reachable & {*seeds}]


@dataclass(frozen=True)
class PooledFit:
    """The additive model fitted to the runs of a cell."""

    design: CellDesign
    gains: Floats
    """(K,): gains of ``design.methods`` in AP points."""
    residuals: Floats
    """(N,): residuals of the runs in AP points."""

    @property
    def df(self) -> int:
        """Residual degrees of freedom."""
        return self.design.df

    @property
    def std(self) -> float:
        """Residual standard deviation in AP points."""
        return float(np.sqrt(np.sum(self.residuals**2) / self.df))

    @property
    def standard_errors(self) -> Floats:
        """(K,): standard errors of the gains in AP points."""
        return self.std * np.sqrt(np.diag(self.design.covariance))


def fit(
    baseline: Mapping[int, float], methods: Mapping[str, Mapping[int, float]]
) -> PooledFit | None:
    """Return the model of AP points by seed.

    None without a gain or a degree of freedom, and if no residual differs from 0: such runs do not
    show how much others would vary.
    """
    design = CellDesign.of(baseline, methods)
    if not design.methods or design.df < 1:
        return None
    rows = [baseline, *(methods[name] for name in design.methods)]
    runs = zip(design.row, design.seed, strict=True)
    points = np.array([rows[row][seed] for row, seed in runs])
    gains, residuals = design.gains @ points, design.residuals @ points
    for values in (gains, residuals):
        values[np.abs(values) < ROUNDING] = 0
    return PooledFit(design, gains, residuals) if residuals.any() else None


def pooled_gains(model: PooledFit, family: Family) -> dict[str, PooledGain]:
    """Return the gain of each method with one residual variance for all of them."""
    df = np.full(len(model.gains), float(model.df))
    return simultaneous(model, model.standard_errors, df, family)


def simultaneous(
    model: PooledFit, standard_errors: Floats, df: Floats, family: Family
) -> dict[str, PooledGain]:
    """Return gains with Dunnett's intervals and p, from their standard errors (K,) and df (K,)."""
    factor = family_loadings(model.design, family)
    confidence = CONFIDENCE ** (1 / family.cells)
    critical = {
        degrees: dunnett.critical_value(factor, degrees, confidence) for degrees in {*df.tolist()}
    }
    rows = zip(model.gains.tolist(), standard_errors.tolist(), df.tolist(), strict=True)
    results = []
    for mean, error, degrees in rows:
        reach = critical[degrees] * error
        t = _ratio(mean, error)
        p_adjusted = 1 - (1 - dunnett.p_adjusted(t, factor, degrees)) ** family.cells
        over_seeds = Interval(mean - reach, mean + reach)
        p = dunnett.p_single(t, degrees)
        results.append(PooledGain(mean, error, degrees, over_seeds, p, p_adjusted))
    return dict(zip(model.design.methods, results, strict=True))


def _ratio(mean: float, error: float) -> float:
    """Return t; without variation its limit, 0 or infinite."""
    if error > 0:
        return mean / error
    return float("inf") if mean else 0.0


def family_loadings(design: CellDesign, family: Family) -> Floats:
    """Return Dunnett's loadings of all planned rows.

    A row without a gain yet counts with its planned runs. The family hence has the size of the plan
    from the first run on.
    """
    measured: dict[str, set[int]] = {name: set() for name in ("", *design.methods)}
    for row, seed in zip(design.row.tolist(), design.seed.tolist(), strict=True):
        measured[("", *design.methods)[row]].add(seed)
    baseline = measured.pop("")
    waiting = {name: seeds for name, seeds in family.methods.items() if name not in measured}
    if not waiting:
        return dunnett.loadings(design.correlation)
    whole = CellDesign.of(baseline | {*family.baseline}, {**measured, **waiting})
    return dunnett.loadings(whole.correlation)
