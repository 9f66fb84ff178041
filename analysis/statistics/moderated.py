"""Gains with a variance per method, shrunk to a common one (moderated t).

Smyth, Linear models and empirical Bayes methods for assessing differential expression, Statistical
Applications in Genetics and Molecular Biology 3, 2004. Variances are assumed to vary about a common
one as a scaled inverse chi-squared variable. The data estimate how closely; each variance is then a
mean of its estimate and the common one, weighted by degrees of freedom.

Gains share their baseline, so their variances are dependent. Smyth's fit takes them for independent
and trusts the common variance too much. Here the common variance is the mean one of the paired
gains, with the degrees of freedom that the shared baseline leaves, and the spread of variances is
compared with that of simulated gains over a shared baseline. Unlike the pooled interval, this one
is right for a baseline with another variance than the methods.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy

from analysis.statistics.pooled import CellDesign, Family, PooledFit, PooledGain, simultaneous
from analysis.statistics.seeds import Interval
from kd.evaluation.voc import Floats, Integers

SMALLEST = 1e-5
"""Smallest variance as a share of the median: the logarithm of 0 is not defined."""
SIMULATIONS, SEED = 9999, 0


class ShrunkVariances(NamedTuple):
    """Variances shrunk to a common one."""

    variances: Floats
    """(..., K)"""
    df: Floats
    """(..., K): degrees of freedom of each, those of the common variance included."""
    common: Floats
    """(...): the common variance."""
    common_df: Floats
    """(...): its weight in degrees of freedom; inf if the variances suggest no difference."""


def shrink(
    variances: Floats, df: Floats, common: Floats | None = None, spread: float | None = None
) -> ShrunkVariances:
    """Return variances (..., K) with ``df`` (K,) shrunk to a common one.

    With the defaults it is ``squeezeVar`` of limma: both parameters of the common variance are
    fitted to the logarithms (Smyth 2004, section 6.2). ``common``: (...) a known common variance;
    ``spread``: the expected variance of the logarithms if all variances are equal, by default that
    of independent ones. Variances of 0 degrees of freedom become the common one.
    """
    tested = df > 0
    half = df[tested] / 2
    logs = _log_variances(variances, df)
    if spread is None:
        spread = float(scipy.special.polygamma(1, half).mean()) if len(half) else 0.0
    excess = logs.var(axis=-1, ddof=1) - spread if len(half) > 1 else np.zeros(logs.shape[:-1])
    unequal = excess > 0
    half_common = trigamma_inverse(np.where(unequal, excess, 1.0))
    if common is None:
        digamma = scipy.special.digamma(half_common)
        fitted = np.exp(logs.mean(axis=-1) + digamma - np.log(half_common))
        common = np.where(unequal, fitted, variances[..., tested].mean(axis=-1))
    # The share of the common variance is 1 if nothing suggests a difference.
    common_df = np.where(unequal, 2 * half_common, np.inf)
    share = np.where(unequal[..., None], 1 / (1 + df / (2 * half_common)[..., None]), 1.0)
    shrunk = share * common[..., None] + (1 - share) * variances
    return ShrunkVariances(shrunk, common_df[..., None] + df, common, common_df)


def _log_variances(variances: Floats, df: Floats) -> Floats:
    """Return the unbiased logarithms of the variances that have degrees of freedom."""
    half, sample = df[df > 0] / 2, variances[..., df > 0]
    if not len(half):
        return sample
    smallest = SMALLEST * np.median(sample, axis=-1, keepdims=True)
    sample = np.maximum(sample, np.maximum(smallest, np.finfo(float).tiny))
    return np.log(sample) + np.log(half) - scipy.special.digamma(half)


def trigamma_inverse(value: Floats) -> Floats:
    """Return x > 0 with trigamma(x) = ``value`` > 0, by Newton's method (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = scipy.special.polygamma(1, x)
        step = trigamma * (1 - trigamma / value) / scipy.special.polygamma(2, x)
        x = x + step
        if np.all(-step < 1e-12 * x):
            break
    return x


class Deviations(NamedTuple):
    """Linear map from runs to deviations from a mean, in groups with one variance each."""

    matrix: Floats
    """(D, N): deviations are ``matrix @ points``."""
    group: Integers
    """(D,): the group of each deviation."""
    df: Floats
    """(G,): degrees of freedom of each group."""

    @property
    def common_df(self) -> float:
        """Degrees of freedom of the mean variance of all groups, if runs are independent.

        They are those of the chi-squared variable of the same mean and variance (Satterthwaite).
        """
        product = self.matrix @ self.matrix.T
        return float(np.trace(product) ** 2 / np.sum(product**2))

    def variances(self, points: Floats) -> Floats:
        """Return the variance (..., G) of each group of points (..., N), 0 without freedom."""
        member = np.eye(len(self.df))[self.group]
        return (points @ self.matrix.T) ** 2 @ member / np.maximum(self.df, 1)


def gain_deviations(design: CellDesign) -> Deviations:
    """Return the deviations of each method's paired gains from their mean."""
    runs = {
        run: index
        for index, run in enumerate(zip(design.row.tolist(), design.seed.tolist(), strict=True))
    }
    identity = np.eye(len(runs))
    blocks, group, df = [np.empty((0, len(runs)))], [], []
    for method in range(len(design.methods)):
        shared = [seed for row, seed in runs if row == method + 1 and (0, seed) in runs]
        rows, baselines = ([runs[row, seed] for seed in shared] for row in (method + 1, 0))
        gains = identity[rows] - identity[baselines]
        blocks.append(gains - gains.mean(axis=0) if shared else gains)
        group += [method] * len(shared)
        df.append(max(len(shared) - 1, 0))
    return Deviations(np.vstack(blocks), np.array(group, dtype=np.int64), np.array(df, dtype=float))


def run_deviations(design: CellDesign) -> Deviations:
    """Return the residuals of each row's runs, scaled so that equal variances stay equal."""
    runs = np.bincount(design.row)
    freedom = np.bincount(design.row, np.diag(design.residuals))
    df = np.maximum(runs - 1.0, 0)
    scale = np.sqrt(df / np.where(freedom > 1e-9, freedom, np.inf))
    return Deviations(scale[design.row, None] * design.residuals, design.row, df)


def moderated_gains(model: PooledFit, family: Family) -> dict[str, PooledGain]:
    """Return the gain of each method with the moderated variance of its paired gains."""
    return simultaneous(model, *moderated_errors(model.design, model.residuals), family)


def moderated_errors(design: CellDesign, residuals: Floats) -> tuple[Floats, Floats]:
    """Return the standard error and its df, (..., K) each, of gains with residuals (..., N)."""
    deviations = gain_deviations(design)
    variances = deviations.variances(residuals)
    freedom = deviations.df.sum()
    common = variances @ deviations.df / max(freedom, 1)
    shrunk = shrink(variances, deviations.df, common, expected_spread(design))
    # The covariance is in units of the residual variance, half of that of a paired gain.
    errors = np.sqrt(shrunk.variances / 2 * np.diag(design.covariance))
    return errors, np.minimum(shrunk.df, deviations.common_df)


def confirmed_gains(
    pooled: Mapping[str, PooledGain], moderated: Mapping[str, PooledGain]
) -> dict[str, PooledGain]:
    """Return gains whose interval spans both intervals, and whose p are the larger ones.

    The pooled interval assumes one variance of all runs; the moderated one does not. A gain whose
    joined interval excludes 0 is significant by both. Their standard error is the larger one, with
    the smaller degrees of freedom.
    """
    return {
        name: gain._replace(
            over_seeds=Interval(
                min(gain.over_seeds.low, pooled[name].over_seeds.low),
                max(gain.over_seeds.high, pooled[name].over_seeds.high),
            ),
            standard_error=max(gain.standard_error, pooled[name].standard_error),
            df=min(gain.df, pooled[name].df),
            p=max(gain.p, pooled[name].p),
            p_adjusted=max(gain.p_adjusted, pooled[name].p_adjusted),
        )
        for name, gain in moderated.items()
    }


def expected_spread(design: CellDesign) -> float:
    """Return the mean variance of the log variances of gains in data of equal variances."""
    deviations = gain_deviations(design)
    logs = _log_variances(deviations.variances(_noise(design)), deviations.df)
    return float(logs.var(axis=-1, ddof=1).mean()) if logs.shape[-1] > 1 else 0.0


def _noise(design: CellDesign) -> Floats:
    """Return simulated errors (S, N) of equal variance."""
    return np.random.default_rng(SEED).standard_normal((SIMULATIONS, len(design.row)))


def equal_variances_p(model: PooledFit, deviations: Deviations) -> float | None:
    """Return the p of Bartlett's test that groups have one variance; None with fewer than two.

    Bartlett, Proceedings of the Royal Society A 160, 1937. Groups are dependent, because methods
    share seeds and baseline. The p is hence the share of simulated data sets of equal variances
    whose statistic is as large. It holds for any number of seeds and with missing runs.
    """
    if np.count_nonzero(deviations.df) < 2:
        return None
    simulated = bartlett(deviations.variances(_noise(model.design)), deviations.df)
    observed = bartlett(deviations.variances(model.residuals), deviations.df)
    # Values that differ by rounding count as equal.
    larger = np.count_nonzero(simulated >= observed - 1e-9)
    return float((1 + larger) / (1 + SIMULATIONS))


def bartlett(variances: Floats, df: Floats) -> Floats:
    """Return Bartlett's statistic (...) of variances (..., G), without its constant factor."""
    variances, df = variances[..., df > 0], df[df > 0]
    pooled = variances @ df / df.sum()
    floor = np.maximum(variances, SMALLEST * pooled[..., None])
    return df.sum() * np.log(pooled) - np.log(floor) @ df
