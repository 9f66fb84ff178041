"""All statistics of a cell at once, on the committed runs, and the power of a planned cell."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics.comparison import compare_cell, mean_interval, run_deviation
from analysis.statistics.moderated import gain_deviations
from analysis.statistics.pooled import CellDesign, Family
from analysis.statistics.pooled_power import (
    confirmed_df,
    detectable_gain,
    pooled_df,
    pooled_seeds_needed,
    power,
)
from analysis.statistics.seeds import t_interval
from benchmarks.inference.studies import EFFECT, critical_values, make_design, rates
from tests.support.paths import REPOSITORY


def comparison_of(table, **planned):
    runs = pd.read_csv(REPOSITORY / "docs" / "evidence" / "ours-runs.csv")
    runs = runs[(runs["table"] == table) & (runs["method"] != "teacher")]
    points = {
        method: dict(zip(group["seed"], group["AP"], strict=True))
        for method, group in runs.groupby("method")
    }
    baseline = points.pop("baseline")
    methods = {name: [*row] for name, row in points.items()}
    return compare_cell(baseline, points, Family([*baseline], {**methods, **planned}))


def words_of(comparison):
    return {name: judgment.word for name, judgment in comparison.judgments.items()}


def test_two_stage_gains_that_vary_little_by_chance_are_not_shown():
    """Differences of Chen 2017 and FGFI agree by chance; those of Mimic are five times as large."""
    comparison = comparison_of("two_stage")
    assert (comparison.std, comparison.df) == (pytest.approx(0.714, abs=1e-3), 20)
    words = words_of(comparison)
    helping = {name for name, word in words.items() if word == "helps"}
    assert helping == {"fitnets", "mimic", "defeat_full", "gid"}
    assert words["dicod"] == "hurts" and words["chen"] == words["fgfi"] == "undetermined"
    assert comparison.equal_gains_p < 0.05 < comparison.equal_runs_p


def test_planned_rows_and_cells_make_words_harder_to_reach():
    guidance = comparison_of("guidance")
    assert words_of(guidance)["pfi"] == "no gain worth half a point"
    later = {f"later {number}": range(5) for number in range(20)}
    more = comparison_of("guidance", **later)
    assert words_of(more)["pfi"] == "undetermined"
    assert more.judgments["pfi"].p_equivalence == guidance.judgments["pfi"].p_equivalence
    assert more.judgments["pfi"].p_corrected > guidance.judgments["pfi"].p_corrected
    assert more.confirmed["pfi"].over_seeds.low < guidance.confirmed["pfi"].over_seeds.low
    assert more.judgments.keys() == guidance.judgments.keys()


def test_a_cell_without_a_degree_of_freedom_has_no_comparison():
    assert compare_cell({0: 30.0}, {"a": {0: 31.0}}, Family([0], {"a": [0]})) is None


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_runs_that_do_not_vary_about_row_and_seed_have_no_comparison(shift):
    """A method of weight 0 repeats its baseline, which varies between seeds."""
    baseline = {0: 30.1, 1: 30.4, 2: 29.7}
    method = {seed: value + shift for seed, value in baseline.items()}
    family = Family([*baseline], {"a": [*method]})
    assert compare_cell(baseline, {"a": method}, family) is None
    assert compare_cell(baseline, {"a": method | {2: 29.8}}, family)


def test_one_seed_of_a_method_is_judged_with_the_variance_of_the_others():
    baseline = {0: 30.0, 1: 30.4, 2: 30.1}
    methods = {"a": {0: 31.0, 1: 31.5, 2: 31.2}, "b": {0: 45.0}}
    family = Family([*baseline], {name: [*row] for name, row in methods.items()})
    comparison = compare_cell(baseline, methods, family)
    assert words_of(comparison)["b"] == "helps"
    assert comparison.confirmed["b"].standard_error > comparison.confirmed["a"].standard_error


def test_degrees_of_freedom_are_those_of_the_designs():
    for seeds, methods in ((2, 1), (3, 10), (5, 12)):
        design = CellDesign.of(range(seeds), {str(k): range(seeds) for k in range(methods)})
        assert pooled_df(seeds, methods) == design.df
        deviations = gain_deviations(design)
        assert confirmed_df(seeds, methods) == pytest.approx(deviations.common_df)


@pytest.mark.parametrize("seeds", [3, 5])
def test_power_is_the_share_of_simulated_studies(seeds):
    design = make_design(seeds, missing=False)
    simulated = rates(3000, design, "equal", critical_values(design))
    planned = power(EFFECT, 1.0, seeds, 10, confirmed=False)
    assert planned == pytest.approx(simulated["pooled, Dunnett"].power, abs=0.02)
    assert power(EFFECT, 1.0, seeds, 10) == pytest.approx(simulated["both"].power, abs=0.05)


def test_detectable_gain_and_seeds_are_inverse():
    gain = detectable_gain(0.35, 5, 12)
    assert power(gain, 0.35, 5, 12) == pytest.approx(0.8, abs=1e-4)
    assert pooled_seeds_needed(0.35, 12, gain * 1.001) == 5
    assert pooled_seeds_needed(0.35, 12, gain * 0.999) == 6
    assert detectable_gain(0.35, 5, 12, confirmed=False) < gain
    assert detectable_gain(0.35, 1, 12) is None and detectable_gain(0.0, 3, 12) == 0
    assert pooled_seeds_needed(0.0, 3) == 2 and pooled_seeds_needed(100.0, 3, 0.1) is None
    assert np.isclose(power(0.0, 0.0, 3, 3), 0)


def test_a_run_deviates_with_its_seed_and_by_itself():
    """Rows 1, 2, 3 and 2, 3, 4 differ by a constant: the seed is all of the deviation."""
    rows = [{0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 1: 3.0, 2: 4.0}]
    assert run_deviation(rows, 0.0) == pytest.approx((1, 2)), "of one row"
    assert run_deviation(rows, 1.0) == pytest.approx((1, 4)), "of both rows"
    std, df = run_deviation([*rows, {0: 5.0}, {}], 0.5**0.5)
    assert std == pytest.approx(1) and df == pytest.approx(16 / (8 / 4 + 3 / 4 * 4))
    assert run_deviation([{0: 1.0, 1: 1.0}], 0.0)[0] == 0


def test_the_interval_of_a_mean_has_the_deviation_of_its_cell():
    baseline = {0: 30.0, 1: 30.4, 2: 30.1}
    methods = {"a": {0: 31.0, 1: 31.5, 2: 31.2}, "b": {0: 32.0}}
    family = Family([*baseline], {name: [*row] for name, row in methods.items()})
    comparison = compare_cell(baseline, methods, family)
    low, high = mean_interval(baseline, comparison)
    assert (low + high) / 2 == pytest.approx(90.5 / 3)
    quantile = stats.t.ppf(0.975, comparison.run_df)
    assert high - low == pytest.approx(2 * quantile * comparison.run_std / 3**0.5)
    assert 2 <= comparison.run_df <= 4
    assert mean_interval(methods["b"], comparison) is None
    assert mean_interval(baseline, None) == t_interval(baseline.values())
    differing = replace(comparison, equal_runs_p=0.01)
    assert mean_interval(baseline, differing) == t_interval(baseline.values())


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_intervals_of_means_cover_the_true_mean(share):
    """In 600 simulated cells of three rows and three seeds; two standard errors are 1.8 %."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        seeds = random.normal(0, share**0.5, 3)
        points = seeds + random.normal(0, (1 - share) ** 0.5, (3, 3))
        rows = [dict(enumerate(row)) for row in points]
        residuals = points - points.mean(axis=0) - points.mean(axis=1, keepdims=True)
        residual_std = (((residuals + points.mean()) ** 2).sum() / 4) ** 0.5
        std, df = run_deviation(rows, residual_std)
        covered += abs(points[0].mean()) <= stats.t.ppf(0.975, df) * std / 3**0.5
    assert covered / 600 == pytest.approx(0.95, abs=0.025)
