"""Detectable gains of a plan, from spreads computed by hand."""

import math
from dataclasses import replace

import pytest

from analysis.planning.cells import cells_of
from analysis.planning.power import Spread, describe, spreads
from analysis.statistics.pooled_power import detectable_gain, pooled_seeds_needed
from kd.config.library import Library
from tests.support.measured import measure
from tests.support.tiny import edit

UNKNOWN = (
    "Cannot estimate the variation of AP between seeds: it takes two baseline seeds with different "
    "results."
)


def add_table(title: str, **changes) -> None:
    """Add a copy of the study's table with changes."""
    table = Library().study("tiny", "test").model_dump(mode="json")["tables"]["pair"]
    edit("configs/studies/tiny.yaml", **{f"tables__{title}": table | {"title": title} | changes})


def test_one_seed_gives_no_spread(planned):
    study = planned()
    measure(study, "baseline", 20.0)
    measure(study, "rm", 21.0)
    assert spreads(cells_of(study)) == [None]
    assert describe(study) == UNKNOWN


def test_equal_results_give_no_spread(planned):
    """Untrained networks all have AP 0."""
    study = planned()
    measure(study, "baseline", 0.0, 0.0)
    measure(study, "rm", 0.0, 0.0)
    assert spreads(cells_of(study)) == [None]
    assert describe(study) == UNKNOWN


def test_rows_of_the_validation_split_are_read_from_it(planned):
    study = planned()
    rows = [replace(row, split="val") for row in study.rows]
    on_val = replace(study, rows=rows, table_rows=rows)
    measure(study, "baseline", 20.0, 30.0)
    assert cells_of(on_val)[0].baseline_values == {}
    for run in list(cells_of(on_val)[0].baseline.values())[:2]:
        (run.directory / "val").mkdir()
        (run.directory / "metrics.json").rename(run.directory / "val" / "metrics.json")
    assert cells_of(on_val)[0].baseline_values == {0: 20.0, 1: 30.0}
    assert cells_of(study)[0].baseline_values == {}


def test_two_seeds_of_a_baseline_replace_the_residual_deviation(planned):
    study = planned()
    measure(study, "baseline", 20.0, 21.0)
    (spread,) = spreads(cells_of(study))
    # The variance of 20 and 21 is 1/2.
    assert spread == (pytest.approx(math.sqrt(0.5)), 1, "baselines alone")
    assert "0.71 (df 1, baselines alone)" in describe(study)


def test_the_spread_is_the_residual_deviation_of_the_pooled_model(planned):
    study = planned()
    measure(study, "baseline", 20.0, 30.0)
    measure(study, "rm", 21.0, 33.0)
    # Residuals of a table of two by two are a quarter of 33 - 21 - 30 + 20 = 2 each: 4 / 4 = 1.
    assert spreads(cells_of(study)) == [Spread(pytest.approx(1.0), 1)]


def test_an_undefined_metric_is_left_out(planned):
    study = planned()
    measure(study, "baseline", 20.0, 21.0, None)
    (spread,) = spreads(cells_of(study))
    assert spread and spread.df == 1


def test_a_cell_without_runs_has_the_spread_of_the_others(planned):
    add_table("other", detectors=["gfl"])
    study = planned()
    (first, second) = cells_of(study)
    assert (first.cells, second.cells) == (1, 1)
    rows = [row for row in study.rows if row.table == "pair"]
    pair = type(study)(study.study, study.scale, rows)
    measure(pair, "baseline", 20.0, 30.0)
    measure(pair, "rm", 21.0, 33.0)
    assert spreads([first, second]) == [
        (pytest.approx(1.0), 1, ""),
        (pytest.approx(1.0), 1, "other rows"),
    ]


def test_a_baseline_of_two_tables_counts_once(planned):
    add_table("other", methods=["rm"])
    study = planned()
    rows = [row for row in study.rows if row.table == "pair"]
    measure(type(study)(study.study, study.scale, rows), "baseline", 20.0, 30.0, 40.0)
    assert [spread.df for spread in spreads(cells_of(study)) if spread] == [2, 2]


def test_the_interval_of_a_spread_is_that_of_chi_squared():
    # Two degrees: 7.378 and 0.0506, as printed in tables.
    assert Spread(1.0, 2).limits == pytest.approx(
        (math.sqrt(2 / 7.378), math.sqrt(2 / 0.0506)), rel=1e-3
    )


def test_the_family_is_the_table_even_for_a_selection(planned):
    (whole,), (part,) = cells_of(planned()), cells_of(planned(methods=["rm"]))
    assert [*whole.rows] == [*part.rows] == whole.selected
    assert [key.split("/")[-1] for key in part.selected] == ["rm"]


def test_detectors_of_a_table_are_cells_of_one_family(planned):
    add_table("pair", detectors=["retinanet", "gfl"])
    assert [cell.cells for cell in cells_of(planned())] == [2, 2]


def test_the_plan_states_its_detectable_gains(planned):
    study = planned(3)
    measure(study, "baseline", 20.0, 30.0)
    measure(study, "rm", 21.0, 33.0)
    header, line, note, _ = describe(study).splitlines()
    gain, needed = detectable_gain(1.0, 3, 2), pooled_seeds_needed(1.0, 2)
    assert header.split()[0] == "gains" and line.startswith("pair/1x/retinanet/r18/baseline")
    assert line.split()[1:5] == ["2", "3", "1.00", "(df"]
    assert f" {gain:.1f} " in line and f" {needed} (" in line
    assert "probability 0.8 at level 0.05" in note


def test_one_planned_seed_detects_no_gain(planned):
    add_table("other", detectors=["gfl"], seeds=1)
    study = planned(None)
    rows = [row for row in planned(2).rows if row.table == "pair"]
    pair = type(study)(study.study, study.scale, rows)
    measure(pair, "baseline", 20.0, 30.0)
    measure(pair, "rm", 21.0, 33.0)
    edit("configs/studies/tiny.yaml", tables__pair__seeds=2)
    text = describe(planned(None))
    assert " none " in text and "One seed detects no gain: plan at least two." in text
