"""Rows that are measured on a validation split, and the composed configuration of their runs."""

from pathlib import Path
from typing import Any

import pytest

from analysis.figures.planning import plan_figures
from analysis.tables.write import ON_VALIDATION, specification
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.records.inputs import config_digest
from kd.workflow.plan_text import early_splits
from kd.workflow.workflow import Workflow
from tests.support.tiny import edit, make_project

STUDY, DATASET = "configs/studies/tiny.yaml", "configs/datasets/shapes-tiny.yaml"
SWEEP = {"rm": {"weight": [2, 8]}}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def hold_out() -> None:
    """Add a validation split to the data set that the tiny scale trains on."""
    val = {"annotations": "annotations/val.json", "images": "val"}
    edit(DATASET, val=val, generate__val=4)


def planned(**changes: Any) -> Plan:
    if changes:
        edit(STUDY, **{f"tables__pair__{key}": value for key, value in changes.items()})
    return plan("tiny", "tiny", Library())


def splits(study: Plan) -> set[str]:
    return {row.split for row in study.rows}


def test_a_validation_split_is_composed_and_renames_no_run() -> None:
    before = planned().runs
    assert all("val_dataloader" not in run.config for run in before.values())
    for run in before.values():
        run.write()
    hold_out()
    after = planned().runs
    assert [*after] == [*before]
    for name, run in after.items():
        assert run.config["val_dataloader"]["dataset"]["ann_file"] == "annotations/val.json"
        assert config_digest(run.config) == config_digest(before[name].config)
        run.write()
        assert "val_dataloader" in run.composed.read(run.directory).settings


def test_the_rows_of_a_sweep_are_measured_on_it_and_others_on_the_test_split() -> None:
    hold_out()
    assert splits(planned()) == {"test"}
    assert splits(planned(sweep=SWEEP)) == {"val"}
    assert splits(planned(split="test")) == {"test"}


def test_without_it_a_sweep_is_measured_on_the_test_split_and_the_plan_says_so() -> None:
    study = planned(sweep=SWEEP)
    assert splits(study) == {"test"}
    (line,) = early_splits(study, Library())
    assert line.startswith("No validation split (shapes-tiny): AP during training and sweeps")
    hold_out()
    assert early_splits(planned(), Library()) == ["Measured on the validation split: pair"]


def test_a_table_may_ask_for_it_if_its_data_set_has_one() -> None:
    hold_out()
    with pytest.raises(UserError, match=r"'pair': key 'split' is val.*'coco2017' has no 'val'"):
        planned(split="val")
    edit("configs/scales/tiny.yaml", datasets={"shapes-tiny": "shapes-tiny"})
    assert splits(planned(dataset="shapes-tiny")) == {"val"}


def test_the_workflow_makes_the_results_that_the_table_reads() -> None:
    hold_out()
    study = planned(sweep=SWEEP)
    workflow = Workflow.read({"study": "tiny", "scale": "tiny"})
    paths = workflow.publications[0].validation_results
    folders = {f"{run.directory}/val" for run in study.runs.values()}
    assert sorted(paths) == sorted(
        f"{folder}/{name}" for folder in folders for name in ("metrics.json", "resampled.npz")
    )
    specs = [specification(row, study, Library()) for row in study.rows]
    read = {str(path) for spec in specs for path in (*spec.results.values(),)}
    assert read == folders
    assert {spec.table for spec in specs} == {"One pair (validation split)"}
    assert {spec.early_split for spec in specs} == {"val"}
    assert all(ON_VALIDATION in spec.differs for spec in specs)


def test_the_figure_of_a_sweep_reads_the_same_results() -> None:
    hold_out()
    edit(STUDY, figures={"sweep": {"analysis": "ablation", "rows": ["rm"]}})
    (figure,) = plan_figures(planned(sweep=SWEEP), "tiny", "tiny").values()
    assert all(path.endswith("/val/metrics.json") for path in figure.inputs)
    assert "measured_on=val" in figure.arguments
