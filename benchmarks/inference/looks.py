"""Simulated studies that add seeds until decided, by the sequential rule, and at fixed seeds."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from analysis.statistics.dunnett import critical_value, loadings
from analysis.statistics.looks import Rule
from analysis.statistics.moderated import moderated_errors
from analysis.statistics.pooled import CellDesign
from analysis.statistics.pooled_power import POWER, detectable_gain
from analysis.statistics.seeds import WORTH_FINDING
from benchmarks.inference.studies import SEEDS, holm_significant, row_errors
from kd.evaluation.voc import Flags, Floats, Integers

DF_GRID = np.array([*range(1, 13), 14, 17, 21, 28, 40, 70, 150, np.inf])
STD, EFFECT = 0.35, 1.0
"""AP points: residual deviation of RetinaNet in the evidence, and the gain of half of the rows."""
KINDS = ("equal", "unequal", "noisy baseline")
UNDECIDED, GAIN, NO_GAIN = 0, 1, 2


class Decided(NamedTuple):
    """The words of simulated rows, and the seeds that they took."""

    word: Integers
    """(B, K): ``UNDECIDED``, ``GAIN`` of either sign, or ``NO_GAIN``."""
    seeds: Integers
    """(B, K)"""


def decide(points: Floats, rule: Rule) -> Decided:
    """Return the decisions of ``analysis.statistics.sequential`` on AP (B, 1 + K, S).

    The baseline is the first row. Studies whose rows have the same numbers of seeds are computed
    together.
    """
    studies, rows = len(points), points.shape[1] - 1
    word = np.full((studies, rows), UNDECIDED)
    seeds = np.full((studies, rows), rule.first)
    for look, level in rule.levels.items():
        seeds[word == UNDECIDED] = look
        active = np.flatnonzero((word == UNDECIDED).any(axis=1))
        order = np.argsort(seeds[active], axis=1)
        counts = np.take_along_axis(seeds[active], order, axis=1)
        for pattern in np.unique(counts, axis=0):
            same = (counts == pattern).all(axis=1)
            members, places = active[same], order[same]
            design = _design(look, tuple(pattern.tolist()))
            sources = np.hstack([np.zeros((len(members), 1), dtype=int), 1 + places])
            values = points[members[:, None], sources[:, design.row], design.seed]
            words = _words(design, values, look, tuple(pattern.tolist()), level)
            back = np.argsort(places, axis=1)
            words = np.take_along_axis(words, back, axis=1)
            word[members] = np.where(word[members] == UNDECIDED, words, word[members])
    return Decided(word, seeds)


@cache
def _design(look: int, pattern: tuple[int, ...]) -> CellDesign:
    return CellDesign.of(range(look), {f"{row}": range(n) for row, n in enumerate(pattern)})


def _critical(look: int, pattern: tuple[int, ...], level: float, df: Floats) -> Floats:
    """Return Dunnett's critical values at ``df`` (...), interpolated over 1 / df."""
    above = np.searchsorted(DF_GRID, df)
    needed = {*np.unique(above).tolist(), *np.unique(np.maximum(above - 1, 0)).tolist()}
    values = np.zeros(len(DF_GRID))
    for index in needed:
        values[index] = _grid_value(look, pattern, level, index)
    return np.interp(-1 / df, -1 / DF_GRID, values)


@cache
def _grid_value(look: int, pattern: tuple[int, ...], level: float, index: int) -> float:
    factor = loadings(_design(look, pattern).correlation)
    return critical_value(factor, DF_GRID[index], 1 - level)


def _words(
    design: CellDesign, values: Floats, look: int, pattern: tuple[int, ...], level: float
) -> Integers:
    """Return the words (B, K) of one look at AP (B, N)."""
    gains, residuals = values @ design.gains.T, values @ design.residuals.T
    deviation = np.sqrt(np.sum(residuals**2, axis=1) / design.df)
    pooled = deviation[:, None] * np.sqrt(np.diag(design.covariance))
    moderated, df = moderated_errors(design, residuals)
    reach = np.maximum(
        _critical(look, pattern, level, np.array(float(design.df))) * pooled,
        _critical(look, pattern, level, df) * moderated,
    )
    widest, smallest_df = np.maximum(pooled, moderated), np.minimum(df, design.df)
    p = special.stdtr(smallest_df, (np.abs(gains) - WORTH_FINDING) / widest)
    words = np.where(holm_significant(p, level), NO_GAIN, UNDECIDED)
    return np.where(np.abs(gains) > reach, GAIN, words)


def simulate(studies: int, methods: int, seeds: int, kind: str, seed: int = 0) -> Floats:
    """Return errors (B, 1 + K, S) in AP points."""
    return STD * row_errors(np.random.default_rng(seed), (studies, methods + 1, seeds), kind)


def share(flags: Flags) -> float:
    """Return the percentage of true values."""
    return 100 * float(np.mean(flags))


def power_lines(studies: int) -> Iterator[str]:
    """Yield the measured power of gains that are planned to be detected with probability 0.8."""
    yield "| rows | seeds | gain / standard deviation | planned | measured |"
    yield "|---:|---:|---:|---:|---:|"
    for methods in (1, 3, 10):
        for seeds in SEEDS:
            gain = detectable_gain(STD, seeds, methods) or 0.0
            points = simulate(studies, methods, seeds, "equal")
            points[:, 1] += gain
            is_shown = decide(points, Rule(seeds, seeds)).word[:, 0] == GAIN
            cells = f"{gain / STD:.2f} | {100 * POWER:.0f} | {share(is_shown):.1f}"
            yield f"| {methods} | {seeds} | {cells} |"


def no_gain_lines(studies: int) -> Iterator[str]:
    """Yield how often a gain at the limit is called none, and how often a gain of 0 is."""
    titles = ("false, any row", "right, each row")
    yield f"| rows | seeds | standard deviation / limit | {' | '.join(titles)} |"
    yield "|---:|---:|---:|---:|---:|"
    for methods in (3, 10):
        for seeds in SEEDS:
            for ratio in (0.25, 0.5):
                errors = ratio * WORTH_FINDING / STD * simulate(studies, methods, seeds, "equal")
                none = decide(errors, Rule(seeds, seeds)).word
                errors[:, 1:] += WORTH_FINDING
                limit = decide(errors, Rule(seeds, seeds)).word
                cells = (
                    f"{share((limit == NO_GAIN).any(axis=1)):.1f} | {share(none == NO_GAIN):.1f}"
                )
                yield f"| {methods} | {seeds} | {ratio} | {cells} |"


def sequential_lines(studies: int) -> Iterator[str]:
    """Yield the errors, the power and the seeds of the rule, beside fixed numbers of seeds.

    Half of the rows have a gain of ``EFFECT``, the others none. The false gains are counted where
    no row has one. At the limit all rows have a gain of ``WORTH_FINDING``.
    """
    titles = (
        "false gain, no row helps",
        "false gain, half help",
        'false "no gain"',
        "power",
        "seeds, helping rows",
        "seeds, other rows",
        "trainings",
    )
    yield f"| standard deviations | rows | seeds | {' | '.join(titles)} |"
    yield f"|---|---:|---|{'---:|' * len(titles)}"
    for methods in (3, 6):
        for kind in KINDS:
            errors = simulate(studies, methods, Rule.most, kind)
            for rule in (Rule(), Rule(Rule.first, 5), Rule(Rule.most, Rule.most), Rule(5, 5)):
                cells = " | ".join(_rule_cells(errors, rule))
                name = f"{rule.first} to {rule.most}" if rule.first < rule.most else str(rule.most)
                yield f"| {kind} | {methods} | {name} | {cells} |"


def _rule_cells(errors: Floats, rule: Rule) -> list[str]:
    helping = np.arange(errors.shape[1] - 1) % 2 == 0
    half, limit = errors.copy(), errors.copy()
    half[:, 1:] += EFFECT * helping[:, None]
    limit[:, 1:] += WORTH_FINDING
    none, some, at_limit = (decide(points, rule) for points in (errors, half, limit))
    trainings = some.seeds.sum(axis=1) + some.seeds.max(axis=1)
    return [
        f"{share((none.word == GAIN).any(axis=1)):.1f}",
        f"{share((some.word[:, ~helping] == GAIN).any(axis=1)):.1f}",
        f"{share((at_limit.word == NO_GAIN).any(axis=1)):.1f}",
        f"{share(some.word[:, helping] == GAIN):.1f}",
        f"{some.seeds[:, helping].mean():.1f}",
        f"{some.seeds[:, ~helping].mean():.1f}",
        f"{trainings.mean():.1f}",
    ]
