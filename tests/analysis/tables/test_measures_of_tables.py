"""Optimal LRP and calibration errors of rows: CSV columns, the printed grid, and older runs."""

import pytest

from analysis.tables.csv_file import read_csv, to_csv
from analysis.tables.latex import to_latex
from analysis.tables.markdown import to_markdown
from analysis.tables.measures import NOTE, TITLES, measure_facts
from analysis.tables.rows import MEASURES, RowSpec, build
from kd.evaluation.metrics import Metrics

MEASURED = {"oLRP": 0.7, "oLRP_loc": 0.15, "oLRP_FP": 0.3, "oLRP_FN": 0.4, "D_ECE": 0.12}


def spec(label, runs, kind="baseline"):
    return RowSpec("Table 1", "RetinaNet", label, kind, "R50", "R18", runs)


@pytest.fixture
def rows(run):
    """Return a row of two seeds with measures, and a row of an earlier version without."""
    seeds = {0: run("a", 0.3, **MEASURED), 1: run("b", 0.3, **MEASURED | {"oLRP": 0.8})}
    return build([spec("New", seeds), spec("Old", {0: run("c", 0.3)})])


def test_measures_are_means_over_seeds_in_points(rows):
    new, old = rows
    assert new.metrics["oLRP"] == pytest.approx(75)
    assert new.metrics["D_ECE"] == pytest.approx(12)
    assert not set(old.metrics) & set(MEASURES)
    assert "LaECE" not in new.metrics


def test_only_measured_columns_are_in_the_csv_file_and_are_read_again(rows, tmp_path):
    text = to_csv(rows)
    header = text.splitlines()[0].split(",")
    assert [name for name in header if name in MEASURES] == list(MEASURED)
    assert not any(f"published_{name}" in header for name in MEASURES)
    (tmp_path / "table.csv").write_text(text)
    assert [row.metrics for row in read_csv(tmp_path / "table.csv")] == [
        pytest.approx(row.metrics) for row in rows
    ]
    assert not set(to_csv(rows[1:]).splitlines()[0].split(",")) & set(MEASURES)


def test_measures_are_a_grid_below_the_results(rows):
    text = to_markdown(rows)
    _, _, grid = text.partition("### Calibration and LRP\n\n")
    header, _, line, *_ = grid.splitlines()
    names = [cell.strip() for cell in header.strip("|").split("|")]
    assert names == ["Row", "oLRP", "Localization", "False positives", "Missed", "D-ECE"]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["New", "75.0", "15.0", "30.0", "40.0", "12.0"]
    assert "| Old" not in grid
    assert NOTE in grid
    assert "oLRP" not in text.partition("### Calibration and LRP")[0]
    assert "calibration and LRP" in to_latex(rows)


def test_tables_of_earlier_runs_have_no_grid(rows):
    assert "LRP" not in to_markdown(rows[1:])
    assert "LRP" not in to_latex(rows[1:])
    assert measure_facts(rows[1]) == []
    assert measure_facts(rows[0])[0] == ("oLRP", "75.0")


def test_every_measure_has_a_title_and_is_a_metric():
    assert set(TITLES) == set(MEASURES) <= set(Metrics.model_fields)
