"""Error rates and coverage in a few simulated studies; benchmarks/inference has many."""

import numpy as np
import pytest

from analysis.statistics.bootstrap import resample
from benchmarks.inference import images
from benchmarks.inference.studies import ERRORS, critical_values, make_design, rates

STUDIES = 2000


@pytest.fixture(scope="module")
def rates_of():
    """Return a function from assumption to rates of complete studies of three seeds."""
    design = make_design(3, missing=False)
    critical = critical_values(design)
    return {kind: rates(STUDIES, design, kind, critical) for kind in ERRORS}


def test_intervals_and_tests_are_as_promised_for_equal_variances(rates_of):
    paired, pooled, moderated, both, limma = rates_of["equal"].values()
    assert 0.93 <= pooled.all_covered <= 0.97
    assert 0.93 <= paired.coverage <= 0.97
    assert max(pooled.error_none, moderated.error_none, both.error_none) <= 0.06
    assert pooled.power > 0.5 and both.power > 0.25 and paired.power < 0.1
    assert limma.error_none > 0.08, "the plain moderated t takes dependent gains for independent"


@pytest.mark.parametrize("kind", ["unequal", "noisy baseline", "near baseline"])
def test_both_rules_together_limit_errors_of_unequal_variances(rates_of, kind):
    assert rates_of[kind]["both"].error_none <= 0.06
    assert rates_of[kind]["both"].error_half <= 0.06


def test_the_pooled_rule_alone_does_not(rates_of):
    assert rates_of["noisy baseline"]["pooled, Dunnett"].error_none > 0.08


def test_missing_runs_keep_the_promise():
    design = make_design(3, missing=True)
    pooled = rates(STUDIES, design, "equal", critical_values(design))["pooled, Dunnett"]
    assert 0.93 <= pooled.all_covered <= 0.97 and pooled.error_none <= 0.07


def test_the_joint_interval_covers():
    generator = np.random.default_rng(0)
    weights = resample(images.IMAGES, 200, seed=0)
    variation = images.VARIATIONS["both"]
    samples = [images.mean_gains(generator, 3, variation, weights) for _ in range(400)]
    covered = dict(zip(images.TITLES, images.coverage(samples, 0.0), strict=True))
    assert 0.92 <= covered["joint"] <= 0.98
    assert covered["images alone"] < 0.9
