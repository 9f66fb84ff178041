"""``kd status`` and ``kd logs`` during a training on a real Slurm."""

import json
from typing import Any

import pytest

from tests.slurm.conftest import Case
from tests.slurm.lab import wait_for
from tests.slurm.projects import Training
from tests.support.tiny import kd

STEPS = 2400
SECONDS = 60


@pytest.mark.slurm_full
def test_the_status_of_a_training_follows_the_queue(case: Case, monkeypatch: Any) -> None:
    training = Training(case.folder, STEPS)
    monkeypatch.chdir(case.folder)
    environment = case.lab.environment()
    run = training.run.relative_to(case.folder)

    def status() -> dict[str, Any]:
        printed, errors = kd("status", "--json", **environment).communicate(timeout=SECONDS)
        assert not errors
        runs = json.loads(printed)["runs"]
        return next((status for status in runs if status["run"] == str(run)), {})

    def wait_for_state(state: str, note: str = "") -> dict[str, Any]:
        current: dict[str, Any] = {}

        def is_reached() -> bool:
            current.update(status())
            return current.get("detail") == state and note in current["note"]

        wait_for(is_reached, SECONDS, f"{state} {note}, it is {current}")
        return current

    fillers = [
        case.lab.run("sbatch", "--parsable", "--mem=8000", "--wrap=sleep 600").strip()
        for _ in range(2)
    ]
    case.lab.wait_for_jobs(2)
    flow = case.training(training)
    waiting = wait_for_state("pending", "waits for free nodes (Resources)")
    case.lab.run("scancel", *fillers)
    wait_for(lambda: training.step > 10, SECONDS, "step 10")
    running = wait_for_state("running")
    assert running["job"] == waiting["job"] and running["node"] in ("lab1", "lab2")
    assert 0 < running["step"] < running["steps"] == STEPS and running["seconds_left"] > 0

    follower = kd("logs", str(run), **environment)
    assert follower.stdout and follower.stdout.readline()
    case.lab.run("scancel", running["job"])
    assert flow.wait() == 1
    failed = wait_for_state("failed")
    assert "cancelled" in failed["note"] and failed["job"] == running["job"]
    _, messages = follower.communicate(timeout=SECONDS)
    assert follower.returncode == 0 and "state:          failed" in messages
    case.report(f"pending, running on {running['node']} at step {running['step']}, failed")
