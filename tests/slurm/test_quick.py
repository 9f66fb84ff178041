"""Part of the failure matrix that every test run checks; `make test-slurm` runs all of it."""

import os
from collections.abc import Callable

import pytest

from tests.slurm.conftest import Case
from tests.slurm.flow import QUICK, Flow
from tests.slurm.lab import wait_for
from tests.slurm.projects import TINY, Plain, Training
from tests.support.paths import REPOSITORY

STEPS = 180
WAIT = {"do": "wait"}
HOLDS_A_NODE = {"do": "wait", "gpu": 2}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Flow]:
    """Return a training without an interruption, run by the local backend."""
    training = Training(tmp_path_factory.mktemp("local"), STEPS)
    flow = tiny_flow(training, "--submitit-cluster", "local")
    flow.wait()
    return training, flow


def tiny_flow(training: Training, *arguments: str) -> Flow:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [*QUICK, training.target, *TINY, "--workflow-profile", "none", *arguments]
    return Flow(training.folder, environment, *command)


def test_a_training_in_local_mode_succeeds(
    local: tuple[Training, Flow], record_property: Callable[[str, object], None]
) -> None:
    training, flow = local
    assert flow.wait() == 0, flow.output
    assert training.resumed_at == []
    assert training.weights()
    record_property("slurm", f"a training of {STEPS} steps as a process of this machine")


def test_an_exception_is_reported_and_the_job_repeated(case: Case) -> None:
    project = Plain(case.folder, good={}, bad={"do": "fail"})
    flow = case.snakemake()
    assert flow.wait() == 1
    (line,) = flow.lines(r"job \d+\S* .*name=bad")
    assert "exception: ValueError: the number 17 is not even" in line
    assert "log/bad.log" in line
    assert not project.finished("bad")
    project.change(bad={})
    again = case.snakemake()
    assert again.wait() == 0, again.output
    assert project.history("good") == ["start", "end"]
    assert project.history("bad") == ["start", "start", "end"]
    case.report(f"exit 1, '{line.split('exception: ')[1]}'; the next run repeated only this job")


def test_a_training_resumes_after_the_warning_signal(
    case: Case, local: tuple[Training, Flow]
) -> None:
    whole, _ = local
    training = Training(case.folder, STEPS)
    flow = case.training(training)
    wait_for(lambda: training.step >= 50, 90, "step 50")
    (job,) = case.lab.jobs("RUNNING")
    case.lab.fault("warn", job)
    assert flow.wait() == 0, flow.output
    assert case.sampler.ids == {job}
    (step,) = training.resumed_at
    assert step >= 50
    assert training.ends_like(whole)
    assert f"stopped at step {step} of {STEPS} on request" in training.printed
    case.report(f"saved, requeued as job {job}, resumed at step {step} of {STEPS}, equal weights")


def test_a_cancelled_job_is_reported_and_not_submitted_again(case: Case) -> None:
    project = Plain(case.folder, cancelled=WAIT, other=WAIT)
    flow = case.snakemake()
    case.lab.wait_for_jobs(2)
    wait_for(lambda: len(project.histories) == 2, 60, "both to run")
    job = case.sampler.job_of("cancelled")
    case.lab.run("scancel", job)
    line = flow.wait_for(rf"job {job} .*name=cancelled")
    assert "cancelled" in line.partition("name=cancelled")[2]
    assert "log/cancelled.log" in line
    project.go()
    assert flow.wait() == 1
    assert project.finished("other") and not project.finished("cancelled")
    assert case.sampler.submissions == [1, 1]
    again = case.snakemake()
    assert again.wait() == 0, again.output
    assert project.history("other") == ["start", "end"]
    case.report(
        "exit 1, reported as cancelled, not submitted again; the next run repeated only this job"
    )


def test_ctrl_c_leaves_the_jobs_to_the_next_run(case: Case) -> None:
    project = Plain(case.folder, first=HOLDS_A_NODE, second=HOLDS_A_NODE, third=HOLDS_A_NODE)
    flow = case.snakemake("--submitit-on-interrupt", "leave")
    case.lab.wait_for_jobs(2)
    flow.interrupt()
    assert flow.wait(30) != 0
    assert "Traceback" not in flow.output
    assert len(case.lab.jobs("RUNNING", "PENDING")) == 3
    again = case.snakemake()
    again.wait_for("Adopted job")
    project.go()
    assert again.wait() == 0, again.output
    assert case.sampler.submissions == [1, 1, 1]
    assert project.histories == [["start", "end"]] * 3
    case.report("3 jobs stay in the queue, the next run adopts them")


def test_ctrl_c_cancels_the_jobs(case: Case) -> None:
    project = Plain(case.folder, first=HOLDS_A_NODE, second=HOLDS_A_NODE, third=HOLDS_A_NODE)
    flow = case.snakemake("--submitit-on-interrupt", "cancel")
    case.lab.wait_for_jobs(2)
    flow.interrupt()
    assert flow.wait(30) != 0
    assert "Traceback" not in flow.output
    wait_for(lambda: not case.lab.queue(), 30, "an empty queue")
    project.go()
    again = case.snakemake()
    assert again.wait() == 0, again.output
    case.report("3 jobs cancelled, no lock is left, and the next run starts them again")


def test_pending_and_running_jobs_are_adopted_after_a_kill(case: Case) -> None:
    project = Plain(case.folder, first=HOLDS_A_NODE, second=HOLDS_A_NODE, third=HOLDS_A_NODE)
    flow = case.snakemake()
    case.lab.wait_for_jobs(2)
    flow.kill()
    assert len(case.lab.jobs("PENDING")) == 1
    locked = case.snakemake()
    assert locked.wait() == 1
    assert locked.lines("--unlock")
    assert case.snakemake("--unlock").wait() == 0
    again = case.snakemake()
    again.wait_for("Adopted job")
    project.go()
    assert again.wait() == 0, again.output
    assert case.sampler.submissions == [1, 1, 1]
    assert project.histories == [["start", "end"]] * 3
    case.report(
        "after --unlock, 2 running jobs and a pending one are adopted, none is submitted again"
    )
