"""Errors, power and coverage in a few simulated studies; ``benchmarks/inference`` has many.

A bound of a share is one that 999 of 1,000 repetitions keep if the true share is as stated.
"""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.bootstrap import resample
from analysis.statistics.looks import Rule
from analysis.statistics.pooled_power import POWER, detectable_gain
from analysis.statistics.sequential import follow
from benchmarks.inference import images, looks
from benchmarks.inference.looks import GAIN, NO_GAIN, STD, UNDECIDED, decide, simulate

STUDIES = 1000
WORDS = {
    "helps": GAIN,
    "hurts": GAIN,
    "no gain worth half a point": NO_GAIN,
    "undetermined": UNDECIDED,
}


def at_most(flags, true):
    """Return True if a share of studies may have this true value or a lower one."""
    return np.sum(flags) <= stats.binom.ppf(0.999, len(flags), true)


def at_least(flags, true):
    """Return True if a share of studies may have this true value or a higher one."""
    return np.sum(flags) >= stats.binom.ppf(0.001, len(flags), true)


@pytest.mark.parametrize("kind", ["equal", "unequal", "noisy baseline"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_false_gains_are_at_most_5_percent(kind, seeds):
    word = decide(simulate(STUDIES, 3, seeds, kind), Rule(seeds, seeds)).word
    assert at_most((word == GAIN).any(axis=1), 0.05)


@pytest.mark.parametrize(("methods", "seeds"), [(1, 3), (3, 5), (10, 3), (10, 10)])
def test_power_is_as_planned(methods, seeds):
    points = simulate(STUDIES, methods, seeds, "equal")
    points[:, 1] += detectable_gain(STD, seeds, methods)
    helps = decide(points, Rule(seeds, seeds)).word[:, 0] == GAIN
    # Two intervals must exclude 0: up to three points are lost.
    assert at_least(helps, POWER - 0.03) and at_most(helps, POWER)


def test_a_gain_at_the_limit_is_rarely_none():
    errors = 0.5 * simulate(STUDIES, 3, 5, "equal")
    none = decide(errors, Rule(5, 5)).word == NO_GAIN
    errors[:, 1:] += looks.WORTH_FINDING
    assert at_most((decide(errors, Rule(5, 5)).word == NO_GAIN).any(axis=1), 0.05)
    assert none.mean() > 0.5, "but no gain is often shown to be none"


def test_the_sequential_rule_spends_5_percent_and_saves_seeds():
    rule = Rule(3, 5)
    points = simulate(STUDIES, 3, 5, "equal")
    assert at_most((decide(points, rule).word == GAIN).any(axis=1), 0.05)
    points[:, 1] += 1.2
    sequential, fixed = decide(points, rule), decide(points, Rule(5, 5))
    assert at_most((sequential.word[:, 1:] == GAIN).any(axis=1), 0.05)
    assert sequential.seeds[:, 0].mean() < 4.2
    assert (sequential.word[:, 0] == GAIN).mean() > (fixed.word[:, 0] == GAIN).mean() - 0.06


def test_simulated_decisions_are_those_of_kd_plan():
    rule = Rule(3, 5)
    points = simulate(3, 3, 5, "unequal")
    points[:, 1] += 1.5
    decided = decide(points, rule)
    for study, word, seeds in zip(points, decided.word, decided.seeds, strict=True):
        baseline, *methods = (dict(enumerate(row)) for row in study.tolist())
        cell = {f"{index}": row for index, row in enumerate(methods)}
        decisions = follow(range(5), baseline, cell, rule).decisions
        assert [WORDS[decisions[name].word] for name in cell] == word.tolist()
        assert [decisions[name].seeds for name in cell] == seeds.tolist()


@pytest.mark.parametrize("kind", ["equal", "noisy baseline"])
def test_the_joint_interval_of_a_cell_covers_93_to_97_percent(kind):
    weights = resample(images.IMAGES, 100, seed=0)
    covered = images.cell_coverage(300, 3, 3, images.VARIATIONS["both"], kind, weights)
    low, high = stats.binom.ppf([0.001, 0.999], 300, [0.93, 0.97]) / 300
    assert low <= covered <= high
