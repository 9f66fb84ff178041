"""Rehearsals of a tiny study whose data are absent, from `snakemake rehearse` to its table."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from kd.cli.main import main
from kd.common.errors import UserError
from kd.rehearsal.rehearse import run_apart, seconds_per_step
from kd.resources.rehearsals import PROJECT, read_rehearsal
from kd.workflow.options import WorkflowOptions
from tests.support.paths import REPOSITORY
from tests.support.tiny import edit, kd, make_project, python, write_run

ENTRY = "configs/datasets/shapes-tiny.yaml"
SMALL = ("rehearsal_images=8", "gpus=0", "workers=0")


def project_without_data(folder: Path) -> Path:
    """Return a tiny project whose data set is a COCO data set that is not on this machine."""
    project = make_project(folder, data=False)
    edit(project / ENTRY, generate=None)
    return project


def snakemake(project: Path, *arguments: str, changes: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run the workflow of study tiny; return exit status and output."""
    profile = REPOSITORY / "workflow" / "profiles" / "default"
    options = ["--snakefile", str(REPOSITORY / "Snakefile"), "--workflow-profile", str(profile)]
    config = ["--config", "study=tiny", "scale=tiny", *SMALL, *changes]
    here = os.getcwd()
    os.chdir(project)
    try:
        process = python("snakemake", *options, *arguments, *config)
        output, errors = process.communicate()
    finally:
        os.chdir(here)
    return process.returncode, output + errors


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a project whose study was rehearsed, and the output."""
    project = project_without_data(tmp_path_factory.mktemp("rehearsed"))
    edit(project / "configs/studies/tiny.yaml", seeds=2)
    status, output = snakemake(project, "rehearse")
    assert status == 0, output
    return project, output


def records(project: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a project's rehearsals by the name of their training."""
    paths = (project / "results/rehearsals").glob("*/rehearsal.json")
    contents = map(json.loads, (path.read_text() for path in paths))
    return {record["run"].removeprefix("shapes-tiny/tiny/"): record for record in contents}


def test_every_distinct_training_is_rehearsed_once(rehearsed: tuple[Path, str]) -> None:
    project, output = rehearsed
    trainings = records(project)
    teacher = "retinanet-r18-w0.1875"
    assert trainings.keys() == {
        f"{teacher}/alone",
        "retinanet-r18-w0.125/alone",
        f"retinanet-r18-w0.125/rm_from_{teacher}",
        f"retinanet-r18-w0.125/rm+pfi_from_{teacher}",
    }
    for record in trainings.values():
        assert (record["steps"], record["batch"], record["planned_batch"]) == (2, 4, 4)
        assert record["data"] == "shapes-tiny (stand-in)"
        assert record["seconds"].keys() == {
            *("data", "training", "resumption", "prediction", "evaluation")
        }
        assert record["seconds_per_step"] > 0
        assert record["checkpoint_mb"] > 0
        assert record["gpu_mb"] is None
    table = (project / "results/tiny/tiny/rehearsals.md").read_text()
    assert "4 of 4 rehearsals passed, 0 failed." in table
    assert table.splitlines()[-1] in output


def test_terms_and_random_weights_are_recorded(rehearsed: tuple[Path, str]) -> None:
    trainings = records(rehearsed[0])
    distilled = trainings["retinanet-r18-w0.125/rm+pfi_from_retinanet-r18-w0.1875"]
    assert distilled["gradient_ratios"].keys() == {"loss_rm_cls", "loss_rm_loc", "loss_pfi"}
    assert all(ratio > 0 for ratio in distilled["gradient_ratios"].values())
    assert distilled["losses"].keys() >= {"loss", "loss_cls", "loss_bbox", "loss_pfi"}
    assert distilled["random_weights"] == ["teacher"]
    assert trainings["retinanet-r18-w0.125/alone"]["random_weights"] == []


def test_a_rehearsal_leaves_no_result_of_a_study(rehearsed: tuple[Path, str]) -> None:
    project, _ = rehearsed
    assert {path.name for path in (project / "results").iterdir()} == {"rehearsals", "tiny"}
    assert [path.name for path in (project / "results/tiny/tiny").iterdir()] == ["rehearsals.md"]
    assert not (project / "data").exists()
    assert not list((project / "results").rglob("*.pth"))


def test_a_second_call_rehearses_nothing(rehearsed: tuple[Path, str]) -> None:
    status, output = snakemake(rehearsed[0], "rehearse", "--dry-run")
    assert status == 0
    counts = [line.split() for line in output.splitlines() if line.startswith("rehears")]
    assert all(words[0] == "rehearse" for words in counts)


def test_other_parts_are_rehearsed_again(rehearsed: tuple[Path, str]) -> None:
    status, output = snakemake(rehearsed[0], "rehearse", "--dry-run", changes=("accumulate=2",))
    assert status == 0
    assert ["rehearsal", "4"] in [line.split() for line in output.splitlines()]


def test_the_budget_uses_rehearsals(
    rehearsed: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(rehearsed[0])
    report = Path(
        "results/checks/shapes-tiny.json"
    )  # from which the budget reads numbers of images
    report.parent.mkdir()
    report.write_text((PROJECT / report).read_text())
    output, errors = kd("plan", "tiny", "--scale", "tiny", "--budget").communicate()
    lines = [line for line in output.splitlines() if line.startswith("Estimate for")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("Estimate for 7 trainings: ")
    assert lines[0].endswith("from rehearsals of a few steps (`kd rehearsals` prints them)")


def test_a_training_that_diverges_fails_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_without_data(tmp_path))
    edit("configs/schedules/tiny.yaml", lr=1e30, clip_grad=None, warmup_iters=0)
    kd("compose", "tiny", "--scale", "tiny", "--write").wait()
    process = kd("rehearse", "r18-w0.125/alone", "--images", "8", "--steps", "4")
    _, errors = process.communicate()
    assert process.returncode == 2
    last = errors.splitlines()[-1]
    assert last.startswith("error: ")
    assert "the training diverged" in last
    (failure,) = Path("results/rehearsals").glob("*/failure.json")
    assert "the training diverged" in json.loads(failure.read_text())["reason"]
    output, _ = kd("rehearsals", "tiny", "--scale", "tiny").communicate()
    assert "0 of 4 rehearsals passed, 1 failed, 3 were not made." in output
    assert output.endswith("All columns: results/tiny/tiny/rehearsals.md\n")


def test_a_rehearsal_takes_two_steps_or_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    assert main(["rehearse", "x", "--steps", "1"]) == 2
    assert "argument --steps: must be 2 or more" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"key 'rehearsal_steps': must be .* 2, not 1"):
        WorkflowOptions.parse({"study": "tiny", "scale": "tiny", "rehearsal_steps": 1}, "--config")


def test_a_failure_replaces_an_earlier_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_without_data(tmp_path))
    kd("compose", "tiny", "--scale", "tiny", "--write").wait()
    run = "r18-w0.125/alone"
    assert kd("rehearse", run, "--images", "8").wait() == 0
    (record,) = Path("results/rehearsals").glob("*/rehearsal.json")
    assert kd("rehearse", run, "--images", "8", "--accumulate", "3").wait() == 2
    assert not record.exists()
    assert record.with_name("failure.json").exists()


def test_a_classifier_is_rehearsed_on_crops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_without_data(tmp_path))
    composed = kd("classifier", "smoke", "shapes-tiny", "--scale", "tiny")
    output, errors = composed.communicate()
    assert composed.returncode == 0, errors
    process = kd("rehearse", output.strip(), "--images", "8", "--batch", "4")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    (record,) = records(Path()).values()
    assert record["planned_batch"] > record["batch"] == 4
    assert record["steps"] == 2  # of an epoch with more
    assert record["gradient_ratios"] == {}


def test_stand_in_data_are_prepared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    for prepared in ("in", "already"):
        assert main(["stand-in", "voc0712", "--images", "40"]) == 0
        line = capsys.readouterr().out
        assert "voc0712: absent, so rehearsals use a stand-in of 120 images" in line
        assert f"; prepared {prepared}" in line
    assert not Path("data").exists()
    assert main(["stand-in", "voc0712", "--images", "1"]) == 2
    assert "has no box in any split; raise --images" in capsys.readouterr().err
    assert main(["stand-in", "coco2071"]) == 2
    assert "did you mean 'coco2017'" in capsys.readouterr().err


def test_data_on_this_machine_are_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    edit(ENTRY, generate=None)
    assert main(["stand-in", "shapes-tiny"]) == 0
    assert "rehearsals use the data set on this machine" in capsys.readouterr().out
    link = PROJECT / "data" / "shapes-tiny"
    assert link.resolve() == Path("data/shapes-tiny").resolve()
    assert link.is_symlink()


def test_deleted_data_are_prepared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    for prepared in ("in", "already"):
        assert main(["stand-in", "shapes-tiny"]) == 0
        assert f"prepared {prepared}" in capsys.readouterr().out
    shutil.rmtree("data/shapes-tiny")
    assert main(["stand-in", "shapes-tiny"]) == 0
    assert "prepared in" in capsys.readouterr().out
    assert Path("data/shapes-tiny").is_dir()


def test_a_file_that_describes_no_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    run = write_run("r18-w0.125/alone")
    (run / "run.json").write_text("{}")
    assert main(["rehearse", str(run)]) == 2
    line = f"error: {run}/run.json: does not describe a run; compose it again\n"
    assert capsys.readouterr().err == line


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise UserError("configs/x.yaml: key 'y' is missing")


def test_the_end_of_a_killed_process_is_explained() -> None:
    with pytest.raises(UserError, match=r"SIGKILL.*memory ran out.*smaller --batch"):
        run_apart(kill_this_process)


def test_an_error_of_the_process_is_raised_unchanged() -> None:
    with pytest.raises(UserError, match=r"^configs/x\.yaml: key 'y' is missing$"):
        run_apart(refuse)


def step(seconds: float, first: bool = False, probed: bool = False) -> dict[str, Any]:
    return {"seconds": seconds, "first": first, "probed": probed}


def test_the_time_of_a_step_leaves_out_starts_and_probes() -> None:
    steps = [step(9, first=True, probed=True), step(5, probed=True), step(1), step(3), step(2)]
    assert seconds_per_step([*steps, step(7, first=True)]) == 2
    assert seconds_per_step([step(9, first=True, probed=True), step(4, first=True)]) == 4


def test_a_damaged_record_counts_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("results/rehearsals/0123abcd/rehearsal.json")
    path.parent.mkdir(parents=True)
    for content in ("", "[]", '{"run": "x"}'):
        path.write_text(content)
        assert read_rehearsal("0123abcd") is None
