"""Gains that a paired t test detects."""

import pytest

from analysis.statistics.power import detectable
from analysis.statistics.seeds import seeds_needed


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_detectable_gain_is_the_inverse_of_the_seeds_needed(seeds: int) -> None:
    gain = detectable(0.7, seeds)
    assert gain
    assert seeds_needed(0.7, gain) <= seeds
    assert seeds_needed(0.7, 0.995 * gain) > seeds


def test_one_seed_detects_no_gain() -> None:
    assert detectable(0.7, 1) is None
    assert detectable(0.0, 2) == 0.0
