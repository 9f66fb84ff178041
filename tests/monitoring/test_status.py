"""Status of runs from their files alone, without a cluster."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from kd.training.run_lock import FILE, held
from tests.monitoring.projects import (
    BATCH,
    RATE,
    RECORD,
    STEPS,
    TINY,
    write,
    write_log,
    write_planned_run,
)
from tests.support.tiny import DISTILLED, TEACHER
from tests.test_imports import COMMAND_LINE, heavy_modules


def test_a_run_goes_through_its_states(status_of: Callable[..., dict[str, Any]]) -> None:
    run = write_planned_run(TEACHER)
    assert status_of(run)["state"] == "not started"
    write_log(run, RECORD)
    status = status_of(run)
    assert status["state"] == "running" and status["log"] == f"{run}/train.log"
    assert (status["step"], status["steps"]) == (30, STEPS)
    assert (status["epoch"], status["epochs"]) == (1, 2)
    assert status["seconds_left"] == (STEPS - 30) * BATCH / RATE
    assert status["figure"] is None
    write(run / "validation.jsonl", '{"epoch": 1, "step": 6, "AP": 0.21}\n')
    write_log(run, RECORD, age=300)
    assert (status_of(run)["detail"], status_of(run)["figure"]) == ("interrupted", 21)
    assert status_of(run)["split"] == "test"  # a record of a version that knew no other
    write(run / "weights.pth")
    assert status_of(run)["detail"] == "trained"
    write(run / "predict.log")
    assert status_of(run)["detail"] == "evaluating"
    write(run / "metrics.json", {"AP": 0.3612})
    status = status_of(run)
    assert (status["state"], status["figure"]) == ("done", 36.12)
    assert status["split"] is None


def test_an_interrupted_run_is_resumed_by_snakemake(
    status_of: Callable[..., dict[str, Any]],
) -> None:
    run = write_planned_run(TEACHER)
    write_log(run, RECORD, age=300)
    assert status_of(run)["note"] == "Run `snakemake` again to resume."


def test_a_training_without_new_output_is_running_while_its_process_lives(
    status_of: Callable[..., dict[str, Any]],
) -> None:
    run = write_planned_run(TEACHER)
    write_log(run, RECORD, age=1000)
    assert status_of(run)["detail"] == "interrupted"
    with held(run):
        assert status_of(run)["state"] == "running"
    assert status_of(run)["detail"] == "interrupted"
    with held(run):
        os.utime(run / FILE, (time.time() - 1000,) * 2)  # it was killed long ago
        assert status_of(run)["detail"] == "interrupted"


def test_a_half_written_record_is_skipped(status_of: Callable[..., dict[str, Any]]) -> None:
    run = write_planned_run(TEACHER)
    write(run / "log.jsonl", json.dumps(RECORD) + '\n{"step": 40, "ste')
    assert status_of(run)["step"] == 30


def test_a_student_waits_for_its_teacher(status_of: Callable[..., dict[str, Any]]) -> None:
    teacher, student = write_planned_run(TEACHER), write_planned_run(DISTILLED)
    write(teacher / "failure.json", {"kind": "OSError", "reason": "disk full"})
    assert status_of(teacher)["note"] == "OSError: disk full"
    assert status_of(student)["note"] == "retinanet-r18-w0.1875, which failed"
    write(teacher / "weights.pth")
    assert status_of(student)["state"] == "not started"


def test_no_torch_is_imported() -> None:
    assert heavy_modules(COMMAND_LINE, "status", *TINY) == set()
