"""Dunnett's distribution: the largest |t| of several gains over one baseline.

Dunnett (Journal of the American Statistical Association 50, 1955; Biometrics 20, 1964). The gains
share the error of their baseline and one estimate of the residual variance. The correlation of two
gains is the product of their loadings; all loadings are sqrt(1/2) if no run is missing. Given the
shared errors the gains are independent, so the probability is an integral over two numbers, which
the trapezoidal rule computes to about 1e-10.
"""

from functools import lru_cache

import numpy as np
import scipy

from kd.evaluation.voc import Floats

LARGEST_LOADING = 0.995
"""Loadings above it would need finer steps."""
_NORMAL = np.linspace(0, 9, 91)
"""Steps over half of the shared normal error; the integrand is symmetric."""
_SCALE_STEPS = 201


def loadings(correlation: Floats) -> Floats:
    """Return the loadings (K,) whose products are closest to the correlations (K, K) of gains.

    They are exact if no run is missing. Otherwise they are the least-squares fit of one factor.
    """
    pairs = correlation - np.diag(np.diag(correlation))
    count = len(pairs)
    if count < 2:
        return np.zeros(count)
    factor = np.full(count, np.sqrt(max(pairs.sum() / (count * (count - 1)), 0.01)))
    for _ in range(500):
        squares = np.sum(factor**2) - factor**2
        update = np.clip(pairs @ factor / np.maximum(squares, 1e-12), 0, LARGEST_LOADING)
        # The mean of two steps, because plain steps of two gains alternate.
        factor, change = (factor + update) / 2, np.abs(update - factor).max()
        if change < 1e-12:
            break
    return factor


def tail(t: float, factor: Floats, df: float) -> float:
    """Return the probability that the largest |t| of gains without an effect exceeds ``t``.

    ``factor``: (K,) their loadings; ``df``: degrees of freedom of the residual variance, inf for a
    known one.
    """
    scale, scale_weights = scales(df)
    normal_weights = np.exp(-(_NORMAL**2) / 2)
    normal_weights[0] /= 2
    normal_weights /= normal_weights.sum()
    reach = t * scale[:, None]
    log_inside = np.zeros((len(scale), len(_NORMAL)))
    with np.errstate(divide="ignore"):
        for loading, count in zip(*np.unique(factor, return_counts=True), strict=True):
            rest = np.sqrt(1 - loading**2)
            outside = scipy.special.ndtr((loading * _NORMAL - reach) / rest)
            outside += scipy.special.ndtr(-(loading * _NORMAL + reach) / rest)
            log_inside += count * np.log1p(-np.minimum(outside, 1))
    return float(scale_weights @ -np.expm1(log_inside) @ normal_weights)


def scales(df: float) -> tuple[Floats, Floats]:
    """Return ratios of estimated to true residual deviation, and their probabilities."""
    if np.isinf(df):
        return np.ones(1), np.ones(1)
    low = scipy.special.gammaincinv(df / 2, 1e-15)
    high = scipy.special.gammainccinv(df / 2, 1e-15)
    logs = np.log(2 / df * np.geomspace(low, high, _SCALE_STEPS)) / 2
    log_density = df * logs - df * np.exp(2 * logs) / 2
    weights = np.exp(log_density - log_density.max())
    return np.exp(logs), weights / weights.sum()


def critical_value(factor: Floats, df: float, confidence: float = 0.95) -> float:
    """Return the |t| that all gains without an effect stay below with ``confidence``.

    It lies between the values of one gain and of Bonferroni.
    """
    return _critical_value(tuple(factor.tolist()), df, confidence)


@lru_cache(1024)  # cells of one design have the same value
def _critical_value(loadings_of_gains: tuple[float, ...], df: float, confidence: float) -> float:
    factor, alpha = np.array(loadings_of_gains), 1 - confidence
    one, bonferroni = (_t_quantile(df, alpha / count) for count in (1, len(factor)))
    if len(factor) < 2:
        return one

    def excess(t: float) -> float:
        return tail(t, factor, df) - alpha

    return float(scipy.optimize.brentq(excess, one, bonferroni, xtol=1e-9))


def _t_quantile(df: float, alpha: float) -> float:
    """Return the two-sided quantile of Student's t."""
    if np.isinf(df):
        return -float(scipy.special.ndtri(alpha / 2))
    return -float(scipy.special.stdtrit(df, alpha / 2))


def p_single(t: float, df: float) -> float:
    """Return the two-sided p of one t."""
    if np.isinf(df):
        return 2 * float(scipy.special.ndtr(-abs(t)))
    return 2 * float(scipy.special.stdtr(df, -abs(t)))


def p_adjusted(t: float, factor: Floats, df: float) -> float:
    """Return the p of one t, adjusted for the family: below 0.05 if its interval excludes 0."""
    return p_single(t, df) if len(factor) < 2 else min(tail(abs(t), factor, df), 1.0)
