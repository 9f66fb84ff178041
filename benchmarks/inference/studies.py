"""Simulated studies of ten methods and a baseline, and the error rates of rules on them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import special

from analysis.statistics.dunnett import critical_value, loadings
from analysis.statistics.moderated import gain_deviations, moderated_errors, shrink
from analysis.statistics.pooled import CellDesign
from analysis.statistics.seeds import SIGNIFICANT
from kd.evaluation.voc import Flags, Floats

METHODS = 10
SEEDS = (3, 5, 10)
ERRORS = {
    "equal": "one variance, independent",
    "unequal": "standard deviations of rows vary by a third about their mean",
    "two noisy": "two methods have three times the standard deviation",
    "noisy baseline": "the baseline has 1.5 times the standard deviation",
    "near baseline": "methods share 0 to 95 % of the baseline's error of a seed",
}
"""Assumptions on the errors."""
RULES = ("paired t, Holm", "pooled, Dunnett", "moderated, Dunnett", "both", "limma")
EFFECT = 2.5
"""True gain of the methods that help, in residual standard deviations."""
DF_GRID = np.concatenate([np.arange(1, 12), np.geomspace(12, 200, 9), [np.inf]])


class Outcome(NamedTuple):
    """The decisions of a rule in simulated studies (B, K), and its half widths."""

    significant: Flags
    half_width: Floats
    gains: Floats


class Rates(NamedTuple):
    """Shares of simulated studies."""

    coverage: float
    """Intervals that contain the true gain."""
    all_covered: float
    """Studies in which all intervals do."""
    error_none: float
    """Studies with a false gain if no method has a gain."""
    error_half: float
    """Studies with a false gain if half of the methods have a gain."""
    power: float
    """True gains that are detected."""


def make_design(seeds: int, missing: bool) -> CellDesign:
    """Return a design; with ``missing`` each method but the first lacks up to a third of runs."""
    generator = np.random.default_rng(seeds)
    runs = {}
    for method in range(METHODS):
        lacking = (1 + seeds // 4) * (missing and method > 0 and seeds > 2)
        runs[f"method {method}"] = generator.permutation(seeds)[lacking:].tolist()
    return CellDesign.of(range(seeds), runs)


def simulate_errors(
    generator: np.random.Generator, studies: int, design: CellDesign, kind: str
) -> Floats:
    """Return errors (B, N) of runs, in residual standard deviations."""
    seeds = np.unique(design.seed, return_inverse=True)[1]
    cells = row_errors(generator, (studies, METHODS + 1, int(seeds.max()) + 1), kind)
    return cells[:, design.row, seeds]


def row_errors(generator: np.random.Generator, shape: tuple[int, int, int], kind: str) -> Floats:
    """Return errors (B, 1 + K, S) of the baseline and K methods."""
    studies, rows, seeds = shape
    cells = generator.standard_normal(shape)
    if kind == "unequal":
        cells *= np.sqrt(6 / generator.chisquare(6, (studies, rows)))[..., None]
    elif kind == "two noisy":
        cells[:, 1:3] *= 3
    elif kind == "noisy baseline":
        cells[:, 0] *= 1.5
    elif kind == "near baseline":
        share = np.linspace(0, 0.95, rows - 1)[:, None]
        cells[:, 1:] = share * cells[:, :1] + np.sqrt(1 - share**2) * cells[:, 1:]
    # A seed's own effect must not matter.
    cells += 3 * generator.standard_normal((studies, 1, seeds))
    return cells


def critical_values(design: CellDesign) -> Floats:
    """Return Dunnett's critical values at the degrees of freedom ``DF_GRID``."""
    factor = loadings(design.correlation)
    return np.array([critical_value(factor, df) for df in DF_GRID])


def apply_rules(design: CellDesign, points: Floats, critical: Floats) -> dict[str, Outcome]:
    """Return the outcome of each rule for AP (B, N); ``critical`` of ``critical_values``."""

    def dunnett(values: Floats, standard_errors: Floats, df: Floats) -> Outcome:
        half_width = np.interp(-1 / df, -1 / DF_GRID, critical) * standard_errors
        return Outcome(np.abs(values) > half_width, half_width, values)

    gains, residuals = points @ design.gains.T, points @ design.residuals.T
    deviation = np.sqrt(np.sum(residuals**2, axis=1) / design.df)
    pooled_errors = deviation[:, None] * np.sqrt(np.diag(design.covariance))
    pooled = dunnett(gains, pooled_errors, np.full(gains.shape, design.df))
    moderated = dunnett(gains, *moderated_errors(design, residuals))
    widest = np.maximum(pooled.half_width, moderated.half_width)
    outcomes = (
        paired_t(design, points),
        pooled,
        moderated,
        Outcome(pooled.significant & moderated.significant, widest, gains),
        dunnett(*limma(design, points)),
    )
    return dict(zip(RULES, outcomes, strict=True))


def paired_t(design: CellDesign, points: Floats) -> Outcome:
    """Return each paired t test, corrected by Holm; its intervals are not corrected."""
    deviations = gain_deviations(design)
    means = points @ paired_means(design).T
    errors = np.sqrt(deviations.variances(points) / (deviations.df + 1))
    p = 2 * special.stdtr(deviations.df, -np.abs(means) / errors)
    half_width = special.stdtrit(deviations.df, 1 - SIGNIFICANT / 2) * errors
    return Outcome(holm_significant(p), half_width, means)


def limma(design: CellDesign, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Return gains, standard errors and df of limma, which takes the gains for independent."""
    deviations = gain_deviations(design)
    shrunk = shrink(deviations.variances(points), deviations.df)
    errors = np.sqrt(shrunk.variances / (deviations.df + 1))
    df = np.minimum(shrunk.df, deviations.df.sum())
    return points @ paired_means(design).T, errors, df


def paired_means(design: CellDesign) -> Floats:
    """Return the linear map (K, N) from runs to mean paired gains."""
    identity = np.eye(len(design.row))
    maps = []
    for method in range(1, len(design.methods) + 1):
        shared = set(design.seed[design.row == 0]) & set(design.seed[design.row == method])
        common = np.isin(design.seed, [*shared])
        rows = (identity[common & (design.row == row)].mean(axis=0) for row in (method, 0))
        student, baseline = rows
        maps.append(student - baseline)
    return np.array(maps)


def holm_significant(p: Floats, level: float = SIGNIFICANT) -> Flags:
    """Return the tests (B, K) that Holm's procedure rejects at a level."""
    order = np.argsort(p, axis=1)
    factors = np.arange(p.shape[1], 0, -1)
    ranked = np.maximum.accumulate(np.take_along_axis(p, order, axis=1) * factors, axis=1)
    return np.take_along_axis(ranked, np.argsort(order, axis=1), axis=1) < level


def rates(studies: int, design: CellDesign, kind: str, critical: Floats) -> dict[str, Rates]:
    """Return the rates of each rule in simulated studies."""
    points = simulate_errors(np.random.default_rng(0), studies, design, kind)
    true = np.zeros(METHODS)
    true[1::2] = EFFECT
    none = apply_rules(design, points, critical)
    half = apply_rules(design, points + np.concatenate([[0], true])[design.row], critical)
    return {rule: _rates(none[rule], half[rule], true) for rule in RULES}


def _rates(none: Outcome, half: Outcome, true: Floats) -> Rates:
    covered = np.abs(half.gains - true) <= half.half_width
    return Rates(
        coverage=covered.mean(),
        all_covered=covered.all(axis=1).mean(),
        error_none=none.significant.any(axis=1).mean(),
        error_half=half.significant[:, true == 0].any(axis=1).mean(),
        power=half.significant[:, true > 0].mean(),
    )


def rate_lines(studies: int) -> Iterator[str]:
    """Yield the table of rates in percent."""
    titles = ["rule", "coverage", "all covered", "error, no gain", "error, half gain", "power"]
    yield f"| errors | seeds | runs | {' | '.join(titles)} |"
    yield f"|---|---:|---|---|{'---:|' * (len(titles) - 1)}"
    for seeds in SEEDS:
        for missing in (False, True):
            design = make_design(seeds, missing)
            critical = critical_values(design)
            for kind in ERRORS:
                start = f"| {kind} | {seeds} | {'missing' if missing else 'complete'} |"
                for rule, values in rates(studies, design, kind, critical).items():
                    cells = " | ".join(f"{100 * value:.1f}" for value in values)
                    yield f"{start} {rule} | {cells} |"


def verdict_lines(studies: int) -> Iterator[str]:
    """Yield the rates of the verdict of tables, in percent, for complete runs."""
    titles = ["all intervals cover", "false gain, no row helps", "false gain, half help", "power"]
    yield f"| standard deviations | seeds | {' | '.join(titles)} |"
    yield f"|---|---:|{'---:|' * len(titles)}"
    for kind in ERRORS:
        for seeds in SEEDS:
            design = make_design(seeds, missing=False)
            values = rates(studies, design, kind, critical_values(design))["both"]
            numbers = (values.all_covered, values.error_none, values.error_half, values.power)
            cells = " | ".join(f"{100 * value:.1f}" for value in numbers)
            yield f"| {kind} | {seeds} | {cells} |"
