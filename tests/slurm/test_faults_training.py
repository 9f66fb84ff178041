"""Interrupted trainings resume and end with bit-identical weights."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.conftest import Case
from tests.slurm.flow import Flow
from tests.slurm.lab import wait_for
from tests.slurm.projects import Training
from tests.support.tiny import kd

pytestmark = pytest.mark.slurm_full
STEPS, LONG = 360, 2010
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Return a training without an interruption."""
    return uninterrupted(tmp_path_factory.mktemp("whole"), STEPS)


def uninterrupted(folder: Path, steps: int) -> Training:
    training = Training(folder, steps)
    training.write()
    with contextlib.chdir(folder):
        process = kd("train", training.run)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return training


def wait_for_step(training: Training, flow: Flow, step: int) -> None:
    wait_for(lambda: training.step >= step or flow.is_over, 120, f"step {step}")
    assert not flow.is_over, flow.output


def assert_preempted_training_resumes(case: Case, whole: Training) -> None:
    training = Training(case.folder, STEPS, checkpoint_steps=20)
    flow = case.training(training)
    wait_for_step(training, flow, 60)
    (job,) = case.lab.jobs("RUNNING")
    case.lab.fault("preempt", job)
    assert flow.wait(240) == 0, flow.output
    assert not flow.lines("message:")
    (step,) = training.resumed_at
    assert step >= 40
    assert job in case.sampler.ids and case.sampler.submissions[-1] == 1
    assert training.ends_like(whole)
    case.report(f"requeued under its id, resumed at step {step} of {STEPS}, equal weights")


def test_a_training_resumes_after_preemption_without_grace(case: Case, whole: Training) -> None:
    assert_preempted_training_resumes(case, whole)


@pytest.mark.flavor("grace")
def test_a_training_resumes_after_preemption_with_a_grace_time(case: Case, whole: Training) -> None:
    assert_preempted_training_resumes(case, whole)


def test_a_training_on_a_lost_node_resumes(case: Case, whole: Training) -> None:
    training = Training(case.folder, STEPS, checkpoint_steps=20)
    flow = case.training(training)
    wait_for_step(training, flow, 60)
    (job,) = (job for job in case.lab.queue() if job.state == "RUNNING")
    case.lab.fault("node-lost", job.node)
    assert flow.wait(240) == 0, flow.output
    (step,) = training.resumed_at
    assert step >= 40
    assert case.sampler.ids == {job.id}
    assert training.ends_like(whole)
    case.report(f"requeued under its id, resumed at step {step} of {STEPS}, equal weights")


def test_a_training_resumes_after_its_time_limit(
    case: Case, tmp_path_factory: pytest.TempPathFactory
) -> None:
    training = Training(case.folder, LONG)
    arguments = ["--set-resources", "train:runtime=1", "--submitit-signal-seconds", "30"]
    flow = case.training(training, *arguments)
    wait_for(lambda: len(training.resumed_at) >= 3 or flow.is_over, 400, "three requeues")
    for job in case.sampler.ids:  # so that the test ends on a slow machine
        case.lab.run("scontrol", "update", f"JobId={job}", "TimeLimit=30", check=False)
    assert flow.wait(300) == 0, flow.output
    steps = training.resumed_at
    assert len(steps) >= 2 and steps == sorted({*steps}) and steps[0] > 0
    assert len(case.sampler.ids) == 1
    logged = [json.loads(line)["step"] for line in training.log.read_text().splitlines()]
    assert logged == sorted({*logged}) and logged[-1] == LONG
    assert training.ends_like(uninterrupted(tmp_path_factory.mktemp("long"), LONG))
    case.report(f"requeued under one id, resumed at steps {steps} of {LONG}, equal weights")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a separate file system for the results."""
    folder = tmp_path / "results"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def resize(folder: Path, size: int) -> bool:
    """Resize a file system; return False if its content is larger."""
    command = ["mount", "-o", f"remount,size={size}", folder]
    return subprocess.run(command, capture_output=True).returncode == 0


def shrink(folder: Path, checkpoints: Path) -> bool:
    """Shrink a file system to its other files and two and a half checkpoints."""
    others = (path for path in folder.rglob("*") if path.is_file() and path.parent != checkpoints)
    size = max(path.stat().st_size for path in checkpoints.glob("step*.pth"))
    return resize(folder, sum(path.stat().st_size for path in others) + size * 5 // 2)


def test_a_full_disk_stops_a_training_that_then_resumes(
    case: Case, whole: Training, small_disk: Path
) -> None:
    training = Training(case.folder, STEPS, checkpoint_steps=20)
    flow = case.training(training)
    wait_for_step(training, flow, 60)
    checkpoints = training.run / "checkpoints"
    wait_for(lambda: shrink(small_disk, checkpoints) or flow.is_over, 60, "a smaller disk")
    assert flow.wait() == 1, flow.output
    (line,) = flow.lines("message: job")
    assert "No space left on device" in line and "/latest.log" in line
    assert len([name for name in training.checkpoints if name.startswith("step")]) == 2
    assert not [name for name in training.checkpoints if not name.startswith("step")]
    assert resize(small_disk, 64 * MEGABYTE)
    again = case.training(training)
    assert again.wait() == 0, again.output
    (step,) = training.resumed_at
    assert step >= 40
    assert training.ends_like(whole)
    case.report(f"exit 1, '{line.partition('): ')[2]}'; the next run resumed at step {step}")


def test_a_training_survives_the_end_of_snakemake(case: Case, whole: Training) -> None:
    training = Training(case.folder, STEPS)
    flow = case.training(training)
    wait_for_step(training, flow, 30)
    flow.kill()
    assert case.training(training, "--unlock").wait() == 0
    again = case.training(training)
    again.wait_for("Adopted job")
    assert again.wait() == 0, again.output
    assert training.resumed_at == []
    assert len(case.sampler.ids) == 1
    assert training.ends_like(whole)
    case.report("adopted, not interrupted, equal weights")


def test_the_death_of_one_process_of_two_is_reported(case: Case) -> None:
    training = Training(case.folder, STEPS, "gpus=2", checkpoint_steps=20)
    flow = case.training(training)
    wait_for_step(training, flow, 40)
    (job,) = case.lab.jobs("RUNNING")
    case.lab.kill(job, SLURM_PROCID="1")
    assert flow.wait() == 1, flow.output
    (line,) = flow.lines("message: job")
    assert "signal 9" in line and "process 1 of 2" in line
    assert not case.lab.queue()
    again = case.training(training)
    assert again.wait() == 0, again.output
    (step,) = training.resumed_at
    assert step >= 20
    case.report(f"exit 1, '{line.partition('): ')[2]}'; the next run resumed at step {step}")
