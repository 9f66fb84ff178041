"""How many seeds a gain needs, from spreads worked out by hand."""

import math
from pathlib import Path

import pytest

from analysis.statistics.power import describe, detectable, spread
from analysis.statistics.seeds import seeds_needed
from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.evaluation.metrics import Metrics
from tests.support.tiny import edit, make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned(seeds: int = 3) -> Plan:
    return plan("tiny", "tiny", Library(), seeds)


def measure(plan: Plan, row: str, *points: float | None) -> None:
    """Leave metrics of a row's first seeds, by the name of its method."""
    (chosen,) = (each for each in plan.rows if each.method == row)
    for run, value in zip(chosen.runs.values(), points, strict=False):
        content = dict.fromkeys(Metrics.model_fields)
        content |= {"AP": None if value is None else value / 100, "per_class": {}}
        content |= {"images": 8, "boxes": 20, "detections": 80}
        write_json(run.directory / "metrics.json", content)


def test_nothing_is_known_without_two_seeds() -> None:
    made = planned()
    measure(made, "baseline", 20.0)
    measure(made, "rm", 21.0)
    assert spread(made, "AP") is None
    assert describe(made) == "No spread of AP measured yet: it takes two seeds of a baseline"


def test_two_seeds_of_a_baseline_stand_in_for_gains() -> None:
    made = planned()
    measure(made, "baseline", 20.0, 21.0)
    found = spread(made, "AP")
    # The variance of 20 and 21 is 1/2, that of a difference of two independent runs twice as much.
    assert found and found.std == pytest.approx(1.0)
    assert (found.df, found.rows, found.paired) == (1, 1, False)
    assert "a gain, if runs of one seed are independent: 1.00 AP" in describe(made)


def test_paired_gains_come_before_baselines_and_are_pooled_by_degrees_of_freedom() -> None:
    made = planned()
    measure(made, "baseline", 20.0, 30.0, 40.0)
    measure(made, "rm", 21.0, 32.0, 43.0)  # gains 1, 2, 3: variance 1, two degrees
    measure(made, "rm+pfi", 20.0, 34.0)  # gains 0, 4: variance 8, one degree
    found = spread(made, "AP")
    assert found and found.std == pytest.approx(math.sqrt((2 * 1 + 1 * 8) / 3))
    assert (found.df, found.rows, found.paired) == (3, 2, True)


def test_a_row_of_two_tables_counts_once() -> None:
    study = Library().study("tiny", "test").model_dump(mode="json")
    edit(
        "configs/studies/tiny.yaml",
        tables__other=study["tables"]["pair"] | {"title": "Other", "methods": ["rm"]},
    )
    made = planned()
    rows = [row for row in made.rows if row.table == "pair"]
    first = Plan(made.study, made.scale, rows)
    measure(first, "baseline", 20.0, 30.0)
    measure(first, "rm", 21.0, 32.0)
    found = spread(made, "AP")
    assert found and (found.rows, found.df) == (1, 1)


def test_a_figure_that_is_undefined_counts_as_none() -> None:
    made = planned()
    measure(made, "baseline", 20.0, 21.0, None)
    found = spread(made, "AP")
    assert found and found.df == 1


def test_the_interval_of_a_spread_is_that_of_chi_squared() -> None:
    made = planned()
    measure(made, "baseline", 20.0, 21.0, 22.0)
    found = spread(made, "AP")
    # Two degrees: 7.378 and 0.0506, as printed in tables.
    assert found and found.limits == pytest.approx(
        (math.sqrt(2 * 2 / 7.378), math.sqrt(2 * 2 / 0.0506)), rel=1e-3
    )


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_what_can_be_found_is_the_inverse_of_what_is_needed(seeds: int) -> None:
    gain = detectable(0.7, seeds)
    assert gain
    assert seeds_needed(0.7, gain) <= seeds
    assert seeds_needed(0.7, 0.995 * gain) > seeds


def test_one_seed_finds_nothing() -> None:
    assert detectable(0.7, 1) is None
    assert detectable(0.0, 2) == 0.0


def test_the_plan_says_what_its_seeds_find() -> None:
    made = planned(3)
    measure(made, "baseline", 20.0, 20.5)
    first, needs, finds = describe(made).splitlines()
    assert "0.50 AP (root mean square of 1 row, 1 degree of freedom; 95 % interval 0.22 to" in first
    # Table of the paired t test: an effect of 1 takes 10 pairs at 80 %.
    assert needs.startswith("A gain of 0.5 AP takes 10 seeds (")
    assert "level 0.05, power 0.8" in needs
    assert finds == "3 seeds, as planned, find a gain of 1.6 AP or more"
    assert describe(planned(1)).splitlines()[-1].startswith("No spread")
