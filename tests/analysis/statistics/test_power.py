"""Seeds that a gain needs, from spreads computed by hand."""

import math
from pathlib import Path

import pytest

from analysis.statistics.power import describe, detectable, gain_spread
from analysis.statistics.seeds import seeds_needed
from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.selection import StudyOptions
from kd.evaluation.metrics import Metrics
from tests.support.tiny import edit, make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned(seeds: int = 3) -> Plan:
    return plan("tiny", "tiny", Library(), StudyOptions(seeds=seeds))


def measure(plan: Plan, row: str, *points: float | None) -> None:
    """Write metrics of a row's first seeds; ``row``: the name of its method."""
    (method_row,) = (planned for planned in plan.rows if planned.method == row)
    for run, value in zip(method_row.runs.values(), points, strict=False):
        content = dict.fromkeys(Metrics.model_fields)
        content |= {"AP": None if value is None else value / 100, "per_class": {}}
        content |= {"images": 8, "boxes": 20, "detections": 80}
        write_json(run.directory / "metrics.json", content)


def test_one_seed_gives_no_spread() -> None:
    study = planned()
    measure(study, "baseline", 20.0)
    measure(study, "rm", 21.0)
    assert gain_spread(study, "AP") is None
    assert describe(study) == (
        "Cannot estimate the variation of AP between seeds: run at least two baseline seeds."
    )


def test_two_seeds_of_a_baseline_replace_gains() -> None:
    study = planned()
    measure(study, "baseline", 20.0, 21.0)
    spread = gain_spread(study, "AP")
    # The variance of 20 and 21 is 1/2, that of a difference of two independent runs twice as much.
    assert spread and spread.std == pytest.approx(1.0)
    assert (spread.df, spread.rows, spread.paired) == (1, 1, False)
    assert "a gain, if runs of one seed are independent: 1.00 AP" in describe(study)


def test_paired_gains_are_preferred_and_pooled_by_degrees_of_freedom() -> None:
    study = planned()
    measure(study, "baseline", 20.0, 30.0, 40.0)
    measure(study, "rm", 21.0, 32.0, 43.0)  # gains 1, 2, 3: variance 1, two degrees
    measure(study, "rm+pfi", 20.0, 34.0)  # gains 0, 4: variance 8, one degree
    spread = gain_spread(study, "AP")
    assert spread and spread.std == pytest.approx(math.sqrt((2 * 1 + 1 * 8) / 3))
    assert (spread.df, spread.rows, spread.paired) == (3, 2, True)


def test_a_row_of_two_tables_counts_once() -> None:
    content = Library().study("tiny", "test").model_dump(mode="json")
    edit(
        "configs/studies/tiny.yaml",
        tables__other=content["tables"]["pair"] | {"title": "Other", "methods": ["rm"]},
    )
    study = planned()
    rows = [row for row in study.rows if row.table == "pair"]
    first = Plan(study.study, study.scale, rows)
    measure(first, "baseline", 20.0, 30.0)
    measure(first, "rm", 21.0, 32.0)
    spread = gain_spread(study, "AP")
    assert spread and (spread.rows, spread.df) == (1, 1)


def test_an_undefined_metric_is_left_out() -> None:
    study = planned()
    measure(study, "baseline", 20.0, 21.0, None)
    spread = gain_spread(study, "AP")
    assert spread and spread.df == 1


def test_the_interval_of_a_spread_is_that_of_chi_squared() -> None:
    study = planned()
    measure(study, "baseline", 20.0, 21.0, 22.0)
    spread = gain_spread(study, "AP")
    # Two degrees: 7.378 and 0.0506, as printed in tables.
    assert spread and spread.limits == pytest.approx(
        (math.sqrt(2 * 2 / 7.378), math.sqrt(2 * 2 / 0.0506)), rel=1e-3
    )


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_detectable_gain_is_the_inverse_of_the_seeds_needed(seeds: int) -> None:
    gain = detectable(0.7, seeds)
    assert gain
    assert seeds_needed(0.7, gain) <= seeds
    assert seeds_needed(0.7, 0.995 * gain) > seeds


def test_one_seed_detects_no_gain() -> None:
    assert detectable(0.7, 1) is None
    assert detectable(0.0, 2) == 0.0


def test_the_plan_states_its_smallest_detectable_gain() -> None:
    study = planned(3)
    measure(study, "baseline", 20.0, 20.5)
    first, needs, finds = describe(study).splitlines()
    assert "0.50 AP (root mean square of 1 row, 1 degree of freedom; 95 % interval 0.22 to" in first
    # Table of the paired t test: an effect of 1 takes 10 pairs at 80 %.
    assert needs.startswith("Detecting a gain of 0.5 AP takes 10 seeds (")
    assert "level 0.05, power 0.8" in needs
    assert finds == "With the planned 3 seeds, the smallest detectable gain is 1.6 AP."
    assert describe(planned(1)).splitlines()[-1].startswith("Cannot estimate")
