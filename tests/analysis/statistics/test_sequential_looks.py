"""Decisions by looks after each added seed: the division of the error, and what is read."""

import math

import numpy as np
import pytest

from analysis.statistics.comparison import compare_cell
from analysis.statistics.looks import Rule
from analysis.statistics.pooled import Family
from analysis.statistics.sequential import Decision, follow

ORDER = range(8)


def noisy(gain, seeds, seed=0):
    """Return AP points by seed with standard deviation 0.2."""
    noise = np.random.default_rng(seed).normal(0, 0.2, 8)
    return {index: 20 + gain + float(noise[index]) for index in range(seeds)}


def test_half_of_the_error_is_for_the_last_look():
    assert Rule().levels == pytest.approx(
        {3: 0.005, 4: 0.005, 5: 0.005, 6: 0.005, 7: 0.005, 8: 0.025}
    )
    assert Rule(3, 5).levels == pytest.approx({3: 0.0125, 4: 0.0125, 5: 0.025})
    assert Rule(2, 3, 0.1).levels == pytest.approx({2: 0.05, 3: 0.05})
    assert Rule(4, 4).levels == {4: 0.05}


@pytest.mark.parametrize("most", range(3, 12))
def test_the_levels_sum_to_the_error(most):
    assert math.fsum(Rule(3, most).levels.values()) == pytest.approx(0.05)


def test_a_look_has_the_p_of_the_table():
    baseline, methods = noisy(0, 3, 1), {"a": noisy(0.3, 3, 2), "b": noisy(0.1, 3, 3)}
    family = Family(range(3), dict.fromkeys(methods, range(3)))
    comparison = compare_cell(baseline, methods, family)
    progress = follow(ORDER, baseline, methods, Rule())
    assert comparison
    for name, estimate in progress.estimates.items():
        assert estimate.gain == comparison.confirmed[name]
        assert estimate.judgment == comparison.judgments[name]


def test_a_row_is_decided_once_and_later_seeds_do_not_change_it():
    """The later seeds of a decided row are not read, so a repeated look has the same numbers."""
    baseline = noisy(0, 4, 1)
    methods = {"clear": noisy(5, 3, 2), "open": noisy(0.4, 4, 3)}
    progress = follow(ORDER, baseline, methods, Rule())
    assert progress.decisions == {"clear": Decision("helps", 3)}
    assert (progress.seeds, progress.undecided) == (5, ["open"])
    assert progress.estimates["open"].seeds == 4 and progress.estimates["clear"].seeds == 3
    more = methods | {"clear": noisy(-5, 8, 9) | methods["clear"]}
    assert follow(ORDER, baseline, more, Rule()) == progress


def test_seeds_beyond_the_last_look_are_not_read():
    baseline = dict(enumerate((20.0, 23.0, 21.0, 24.0)))
    methods = {"a": dict(enumerate((22.0, 21.0, 23.0, 22.0)))}
    progress = follow(ORDER, baseline, methods, Rule(3, 4))
    assert progress.decisions == {"a": Decision("undetermined", 4)}
    assert progress.seeds is None and progress.undecided == []
    longer = {"a": noisy(50, 8) | methods["a"]}
    assert follow(ORDER, noisy(0, 8) | baseline, longer, Rule(3, 4)) == progress


def test_a_loss_hurts():
    progress = follow(ORDER, noisy(0, 3, 1), {"a": noisy(-5, 3, 2), "b": noisy(-5, 3, 3)}, Rule())
    assert {decision.word for decision in progress.decisions.values()} == {"hurts"}


def test_a_run_without_a_value_counts_as_measured():
    methods = {"a": dict.fromkeys(range(3)), "b": noisy(5, 3, 2)}
    progress = follow(ORDER, noisy(0, 3, 1), methods, Rule())
    assert progress.seeds == 4 and "a" in progress.undecided and "a" not in progress.estimates


def test_the_family_counts_rows_that_are_not_followed():
    baseline, methods = noisy(0, 3, 1), {"a": noisy(0.5, 3, 2), "b": noisy(0.1, 3, 3)}
    planned = dict.fromkeys("abcdefgh", ORDER)
    alone = follow(ORDER, baseline, methods, Rule()).estimates["a"].gain.p_adjusted
    whole = follow(ORDER, baseline, methods, Rule(), Family(ORDER, planned))
    table = follow(ORDER, baseline, methods, Rule(), Family(ORDER, planned, cells=3))
    assert alone < whole.estimates["a"].gain.p_adjusted < table.estimates["a"].gain.p_adjusted
