"""Variances shrunk to a common one against limma, and Bartlett's test against scipy."""

import numpy as np
import pytest
from scipy import special, stats

from analysis.statistics.moderated import (
    bartlett,
    confirmed_gains,
    equal_variances_p,
    gain_deviations,
    moderated_gains,
    run_deviations,
    shrink,
    trigamma_inverse,
)
from analysis.statistics.pooled import CellDesign, Family, fit, pooled_gains

VARIANCES = np.array([0.02, 0.5, 0.13, 0.09, 1.4, 0.3])


@pytest.mark.parametrize(
    ("df", "prior_df", "prior", "shrunk"),
    [
        (
            [4, 4, 4, 4, 4, 4], 2.096676764, 0.1450451022,
            [0.06300361827, 0.37792928585, 0.13517408376, 0.10893027813, 0.96841491255,
             0.24671025769],
        ),
        (
            [2, 4, 4, 3, 2, 4], 2.634054837, 0.1845533176,
            [0.1135341677, 0.3747517348, 0.1516604224, 0.1342059282, 0.7091248754, 0.2541618362],
        ),
    ],
)  # fmt: skip
def test_shrunk_variances_are_those_of_limma(df, prior_df, prior, shrunk):
    """R package limma 3.54.1: squeezeVar."""
    result = shrink(VARIANCES, np.array(df, dtype=float))
    assert result.common_df == pytest.approx(prior_df, rel=1e-8)
    assert result.common == pytest.approx(prior, rel=1e-8)
    assert result.variances == pytest.approx(shrunk, rel=1e-8)
    assert result.df == pytest.approx(prior_df + np.array(df), rel=1e-8)


def test_moderated_t_is_that_of_limma():
    """R package limma 3.54.1: eBayes(lmFit(gains)), a row for each method."""
    gains = np.array(
        [[1.1, 0.9, 1.3], [0.2, -0.5, 0.9], [4, 6, 5.1], [-1, -1.05, -1.2], [0.3, 0.1, 2]]
    )
    result = shrink(gains.var(axis=1, ddof=1), np.full(5, 2.0))
    t = gains.mean(axis=1) / np.sqrt(result.variances / 3)
    expected = [6.5654037332, 0.5894384672, 10.8693733551, -7.2336929865, 1.6637630664]
    assert t == pytest.approx(expected, rel=1e-8)
    assert result.df == pytest.approx([3.446008081] * 5, rel=1e-8)
    p = 2 * special.stdtr(result.df, -np.abs(t))
    assert p[:2] == pytest.approx([0.0046197235253, 0.5920114871158], rel=1e-7)


def test_similar_variances_become_the_common_one():
    result = shrink(np.array([0.2, 0.25, 0.3, 0.22]), np.full(4, 4.0))
    assert result.variances == pytest.approx([0.2425] * 4)
    assert np.isinf(result.common_df) and np.isinf(result.df).all()


def test_a_variance_without_freedom_becomes_the_common_one():
    result = shrink(np.array([*VARIANCES, 0.0]), np.array([4.0] * 6 + [0.0]))
    assert result.variances[-1] == pytest.approx(0.1450451022, rel=1e-8)
    assert result.df[-1] == pytest.approx(2.096676764, rel=1e-8)


def test_many_studies_are_shrunk_at_once():
    both = shrink(np.stack([VARIANCES, np.full(6, 0.3)]), np.full(6, 4.0))
    assert both.variances[0] == pytest.approx(shrink(VARIANCES, np.full(6, 4.0)).variances)
    assert both.variances[1] == pytest.approx([0.3] * 6)


def test_variances_of_0_are_finite():
    result = shrink(np.array([0.0, 0.0, 0.0, 1.0]), np.full(4, 2.0))
    assert np.isfinite(result.variances).all()
    assert np.isfinite(shrink(np.zeros(3), np.full(3, 2.0)).variances).all()


@pytest.mark.parametrize("value", [1e-6, 0.01, 0.5, 3.0, 200.0, 1e6])
def test_trigamma_inverse(value):
    assert special.polygamma(1, trigamma_inverse(np.array(value))) == pytest.approx(value, rel=1e-9)


def simulated(spread, seeds=4, methods=8, random_state=0):
    """Return points of a baseline and methods whose standard deviations are ``spread``."""
    generator = np.random.default_rng(random_state)
    values = generator.normal(
        30, np.broadcast_to(spread, methods + 1)[:, None], (methods + 1, seeds)
    )
    rows = [dict(enumerate(row.tolist())) for row in values]
    return rows[0], {f"m{k}": row for k, row in enumerate(rows[1:])}


def family_of(baseline, methods):
    return Family([*baseline], {name: [*points] for name, points in methods.items()})


def test_deviations_are_those_of_paired_gains_and_of_runs():
    baseline, methods = simulated(1.0)
    del methods["m1"][2], methods["m2"][0], methods["m2"][1], methods["m2"][2]
    model = fit(baseline, methods)
    gains = {
        name: [points[seed] - baseline[seed] for seed in points] for name, points in methods.items()
    }
    deviations = gain_deviations(model.design)
    expected = [np.var(of, ddof=1) if len(of) > 1 else 0 for of in gains.values()]
    assert deviations.variances(model.residuals) == pytest.approx(expected)
    assert deviations.df == pytest.approx([len(of) - 1 for of in gains.values()])

    runs = run_deviations(model.design)
    variances = runs.variances(model.residuals)
    assert len(variances) == 9 and variances[3] == 0
    # If all rows are equal, the mean is the residual variance.
    complete = fit(*simulated(1.0))
    assert run_deviations(complete.design).variances(complete.residuals).mean() == pytest.approx(
        complete.std**2
    )


def test_bartletts_statistic_is_that_of_scipy():
    generator = np.random.default_rng(0)
    groups = generator.normal(0, [[1], [2], [0.5]], (3, 6))
    variances, df = groups.var(axis=1, ddof=1), np.full(3, 5.0)
    factor = 1 + (3 / 5 - 1 / 15) / (3 * 2)
    assert bartlett(variances, df) / factor == pytest.approx(stats.bartlett(*groups).statistic)


@pytest.mark.parametrize("deviations_of", [gain_deviations, run_deviations])
def test_equal_variances_are_rejected_in_5_percent_of_equal_data(deviations_of):
    p = []
    for random_state in range(100):
        model = fit(*simulated(1.0, seeds=3, methods=5, random_state=random_state))
        p.append(equal_variances_p(model, deviations_of(model.design)))
    # Of 100 studies, 0 to 12 with probability 0.99.
    assert np.count_nonzero(np.array(p) < 0.05) <= 12
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_unequal_variances_are_noticed():
    model = fit(*simulated([0.2] * 7 + [4, 4], seeds=5))
    assert equal_variances_p(model, gain_deviations(model.design)) < 0.01
    assert equal_variances_p(model, run_deviations(model.design)) < 0.01


def test_no_test_of_equal_variances_of_one_method():
    baseline, methods = simulated(1.0, methods=1)
    model = fit(baseline, methods)
    assert equal_variances_p(model, gain_deviations(model.design)) is None


def test_one_method_has_the_paired_t_test():
    baseline, methods = simulated(1.0, seeds=5, methods=1)
    gain = moderated_gains(fit(baseline, methods), family_of(baseline, methods))["m0"]
    test = stats.ttest_rel([*methods["m0"].values()], [*baseline.values()])
    assert (gain.df, gain.p) == (pytest.approx(4), pytest.approx(test.pvalue))
    assert gain.over_seeds == pytest.approx(test.confidence_interval())


def test_equal_variances_leave_the_freedom_of_a_shared_baseline():
    """Ten gains over one baseline of 3 seeds: 2 * 100 / 32.5 degrees of freedom."""
    design = CellDesign.of(range(3), {str(k): range(3) for k in range(10)})
    assert gain_deviations(design).common_df == pytest.approx(2 * 100 / 32.5)


def test_a_noisy_method_has_the_wider_interval():
    baseline, methods = simulated([0.2] * 8 + [6], seeds=5)
    model, family = fit(baseline, methods), family_of(baseline, methods)
    gains, pooled = moderated_gains(model, family), pooled_gains(model, family)
    assert gains["m7"].standard_error > 1.05 * pooled["m7"].standard_error
    assert gains["m0"].standard_error < pooled["m0"].standard_error


def test_confirmed_gains_span_both_intervals():
    baseline, methods = simulated([0.2] * 8 + [6], seeds=5)
    model, family = fit(baseline, methods), family_of(baseline, methods)
    pooled, moderated = pooled_gains(model, family), moderated_gains(model, family)
    for name, gain in confirmed_gains(pooled, moderated).items():
        low = min(pooled[name].over_seeds.low, moderated[name].over_seeds.low)
        high = max(pooled[name].over_seeds.high, moderated[name].over_seeds.high)
        assert gain.over_seeds == (low, high)
        assert gain.p_adjusted == max(pooled[name].p_adjusted, moderated[name].p_adjusted)
        assert (gain.p_adjusted < 0.05) == (low > 0 or high < 0)
