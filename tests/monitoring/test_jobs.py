"""Status of runs with submitted jobs, from the ledger and the queue."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.cli.main import main
from kd.monitoring.failures import record_failures
from tests.monitoring.projects import (
    RECORD,
    TINY,
    install_squeue,
    submit,
    write,
    write_log,
    write_planned_run,
)
from tests.support.tiny import DISTILLED, STUDENT, TEACHER


@pytest.mark.parametrize(
    ("line", "state", "detail", "note"),
    [
        (
            "57|PENDING||0:00|1:00:00|Resources|",
            "queued",
            "pending",
            "waits for free nodes (Resources)",
        ),
        (
            "57|PENDING||0:00|1:00|BeginTime|",
            "queued",
            "requeued",
            "starts again shortly (BeginTime)",
        ),
        ("57|RUNNING|lab1|1:00|1-00:00:00|None|", "running", "running", ""),
        ("57|RUNNING|lab1|59:30|1:00:00|None|", "running", "running", "time limit in 30 s"),
        ("57|CONFIGURING|lab1|0:01|1:00:00|None|", "running", "starting", ""),
        ("57|SUSPENDED|lab1|0:01|1:00:00|None|", "queued", "suspended", ""),
        (
            "57|OUT_OF_MEMORY|lab1|0:01|1:00:00|None|",
            "failed",
            "ended",
            "out of memory (Slurm state OUT_OF_MEMORY); Snakemake has not recorded it yet",
        ),
        (
            "58|RUNNING|lab1|0:01|1:00:00|None|",
            "failed",
            "interrupted",
            "Job 57 is no longer queued. Run `snakemake` again to resume.",
        ),
    ],
)
def test_the_state_of_a_queued_job_comes_from_slurm(
    status_of: Callable[..., dict[str, Any]],
    project: Path,
    line: str,
    state: str,
    detail: str,
    note: str,
) -> None:
    run = write_planned_run(TEACHER)
    submit(run, "57")
    if not line.startswith("57|PENDING"):
        write_log(run, RECORD, age=300)
    calls = install_squeue(project, line)
    status = status_of(run)
    assert (status["state"], status["detail"]) == (state, detail)
    assert status["note"].startswith(note) and bool(note) == bool(status["note"])
    assert status["job"] == "57" and status["slurm_log"] == "logs/slurm/train/job_log.out"
    assert calls.read_text() == "call\n"


def test_a_pending_job_that_has_trained_was_requeued(
    status_of: Callable[..., dict[str, Any]], project: Path
) -> None:
    run = write_planned_run(TEACHER)
    submit(run, "57_3")
    write_log(run, RECORD, age=300)
    install_squeue(project, "57_3|PENDING||0:00|1:00:00|Priority|")
    status = status_of(run)
    assert (status["detail"], status["step"]) == ("requeued", 30)


def test_a_prediction_job_is_an_evaluation(
    status_of: Callable[..., dict[str, Any]], project: Path
) -> None:
    run = write_planned_run(TEACHER)
    write(run / "weights.pth")
    submit(run, "57", "predict")
    install_squeue(project, "57|RUNNING|lab1|0:01|1:00:00|None|")
    assert status_of(run)["detail"] == "evaluating"


def test_jobs_of_other_studies_are_shown_unless_a_study_is_named(
    print_status: Callable[..., str], status_of: Callable[..., dict[str, Any]], project: Path
) -> None:
    run = write_planned_run(TEACHER)
    submit(run, "57")
    install_squeue(project, "57|RUNNING|lab1|0:01|1:00:00|None|")
    assert status_of(run, "--scale", "smoke")["state"] == "running"
    assert run.name not in print_status("rm_pfi", "--scale", "smoke")


def test_jobs_of_no_run_are_listed_below(print_status: Callable[..., str], project: Path) -> None:
    submit(Path("results/crops/voc-12345678"), "57_0", "crops")
    submit(Path("results/crops/coco-12345678"), "58", "crops")
    install_squeue(
        project, "57_0|PENDING||0:00|1:00:00|Priority|", "58|RUNNING|lab1|0:01|1:00:00|None|"
    )
    lines = print_status(*TINY).splitlines()
    below = lines[lines.index("other jobs") + 1 :]
    assert "  crops run=coco-12345678  running  job 58" in below
    (waiting,) = (line for line in below if "57_0" in line)
    assert waiting.endswith("waits behind jobs of higher priority (Priority)")


def test_a_job_of_a_validation_split_is_listed_below(
    print_status: Callable[..., str], project: Path
) -> None:
    run = write_planned_run(TEACHER)
    submit(run / "val", "59", "predict_on_validation")
    install_squeue(project, "59|RUNNING|lab1|0:01|1:00:00|None|")
    lines = print_status(*TINY).splitlines()
    (line,) = lines[lines.index("other jobs") + 1 :][:1]
    assert "predict_on_validation" in line and "job 59" in line


def test_without_an_answer_from_slurm_the_state_comes_from_files(
    print_status: Callable[..., str], status_of: Callable[..., dict[str, Any]], project: Path
) -> None:
    run, other = write_planned_run(TEACHER), write_planned_run(STUDENT)
    submit(run, "57")
    submit(other, "58")
    write_log(run, RECORD)
    install_squeue(project, "Unable to contact slurm controller", status=1)
    text = " ".join(print_status(*TINY).split())
    assert "Cannot reach Slurm; showing the state from files." in text
    assert "Unable to contact slurm controller" in text
    assert status_of(run)["state"] == "running"
    assert status_of(other)["detail"] == "submitted"


def test_squeue_is_called_only_for_jobs_that_may_be_queued(
    print_status: Callable[..., str], project: Path
) -> None:
    calls = install_squeue(project)
    print_status(*TINY)
    submit(write_planned_run(TEACHER), "57", verdict={"cause": "cancelled", "text": "cancelled"})
    submit(write_planned_run(STUDENT), "1", cluster="local")
    print_status(*TINY)
    assert not calls.exists()


def test_a_failed_job_is_shown_with_its_cause(status_of: Callable[..., dict[str, Any]]) -> None:
    run = write_planned_run(TEACHER)
    submit(run, "57", verdict={"cause": "node lost", "text": "node lab1 failed"})
    status = status_of(run)
    assert (status["state"], status["note"]) == ("failed", "node lost: node lab1 failed")


def test_a_running_job_hides_an_older_failure(
    status_of: Callable[..., dict[str, Any]], project: Path
) -> None:
    run = write_planned_run(TEACHER)
    submit(run, "57", verdict={"cause": "cancelled", "text": "cancelled"})
    submit(run, "58")
    install_squeue(project, "58|RUNNING|lab1|0:01|1:00:00|None|")
    assert status_of(run)["state"] == "running"


def test_killed_trainings_get_a_failure_record(capsys: pytest.CaptureFixture[str]) -> None:
    killed, failed = write_planned_run(TEACHER), write_planned_run(STUDENT)
    predicted = write_planned_run(DISTILLED)
    out_of_memory = {"cause": "out of memory", "text": "out of memory: it had 3000 MB"}
    for run in (killed, failed):
        submit(run, "57", verdict=out_of_memory)
    submit(predicted, "58", "predict", verdict=out_of_memory)
    record = {"kind": "ValueError", "reason": "written by the training itself"}
    write(failed / "failure.json", record)
    assert record_failures() == [killed / "failure.json"]
    assert json.loads((failed / "failure.json").read_text()) == record
    assert not (predicted / "failure.json").exists()
    assert record_failures() == []
    assert main(["table", *TINY]) == 0
    assert "failed: out of memory: it had 3000 MB" in capsys.readouterr().out
    assert main(["table", *TINY, "--complete"]) == 2
    assert "partial: runs of study 'tiny' are missing; `kd status" in capsys.readouterr().err
