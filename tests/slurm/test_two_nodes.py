"""Training on two nodes ends with the weights of one process, even if it is interrupted."""

import re
from pathlib import Path

import pytest

from kd.models.weights import read_state
from kd.training.train import train
from tests.slurm.conftest import Case
from tests.slurm.flow import Flow
from tests.slurm.lab import wait_for
from tests.slurm.projects import TINY
from tests.support.tiny import DISTILLED, STUDENT, copy_run, edit, make_project, write_run
from tests.support.training import assert_same, change, logged
from tests.training.test_distributed import WEIGHT_TOLERANCE, freeze_statistics

pytestmark = [pytest.mark.slurm_full, pytest.mark.usefixtures("quiet_mmdet")]
EPOCHS, STEPS, MIDDLE = 10, 60, 15
"""Steps of a training; after 120, a 1e-6 larger learning rate changes the weights too much."""
SECONDS = 400
TWO_NODES = ["--workflow-profile", "none", *TINY, "gpus=2", "gpus_per_node=1"]
SHARED = "batch 4 = 2 on each of 2 processes; learning rate 0.01 (schedule's, for the whole batch)"


@pytest.mark.parametrize("name", [STUDENT, DISTILLED], ids=["alone", "rm+pfi"])
def test_two_nodes_train_to_the_weights_of_one_process(
    case: Case, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_project(case.folder))
    edit("configs/schedules/tiny.yaml", warmup_iters=0, epochs=EPOCHS, milestones=[EPOCHS - 1])
    run = write_run(name)
    change(run, freeze_statistics)
    flow = two_nodes(case, run)
    assert flow.wait(SECONDS) == 0, flow.output
    assert SHARED in printed(run) and "resuming" not in printed(run)
    nodes = {nodes_of(case, job) for job in case.sampler.ids}
    assert nodes == {"2|2|lab[1-2]"}
    whole = run.rename(run.with_name("uninterrupted"))
    difference = largest_difference(whole, *by_one_process(whole))
    assert difference < WEIGHT_TOLERANCE
    step = step_of_interrupted_training(case, copy_run(whole, run.name))
    assert_same(run, whole)
    case.report(
        f"2 processes on lab1 and lab2, largest relative difference {difference:.1e}; "
        f"stopped, requeued, resumed at step {step} of {STEPS}, equal weights and log"
    )


def two_nodes(case: Case, run: Path) -> Flow:
    return case.snakemake(f"{run}/weights.pth", *TWO_NODES)


def printed(run: Path) -> str:
    return (run / "train.log").read_text()


def nodes_of(case: Case, job: str) -> str:
    """Return the number of nodes and tasks of the job's srun step, and the nodes."""
    query = ["sacct", "-nP", "-j", job, "-o", "JobID,NNodes,NTasks,NodeList"]

    def steps() -> list[str]:
        return re.findall(rf"^{job}\.0\|(.+)$", case.lab.run(*query), re.MULTILINE)

    return wait_for(steps, 30, f"the step of job {job} in the accounts")[0]


def by_one_process(run: Path) -> tuple[Path, Path]:
    """Train copies in this process; return one with initial and one with final weights."""
    start, alone = copy_run(run, "start"), copy_run(run, "one")
    change(start, lambda config: config["optim_wrapper"]["optimizer"].update(lr=0.0))
    change(start, lambda config: config["train_cfg"].update(max_epochs=1))
    train(start)
    train(alone)
    return start, alone


def largest_difference(shared: Path, start: Path, alone: Path) -> float:
    """Return the largest difference of a weight, relative to its change in training."""
    two, before, one = (read_state(run / "weights.pth") for run in (shared, start, alone))
    trained = [key for key in one if not one[key].equal(before[key])]
    assert any("bbox_head" in key for key in trained) and any("backbone" in key for key in trained)
    return max(
        ((two[key] - one[key]).norm() / (one[key] - before[key]).norm()).item() for key in trained
    )


def step_of_interrupted_training(case: Case, run: Path) -> int:
    """Train on two nodes with a warning signal; return the step at which it resumed."""
    before = {*case.sampler.ids}
    flow = two_nodes(case, run)
    wait_for(lambda: logged(run) >= MIDDLE or flow.is_over, SECONDS, f"step {MIDDLE}")
    (job,) = case.lab.jobs("RUNNING")
    case.lab.fault("warn", job)
    assert flow.wait(SECONDS) == 0, flow.output
    assert case.sampler.ids - before == {job}
    (step,) = map(int, re.findall(rf"resuming at step (\d+) of {STEPS}", printed(run)))
    assert MIDDLE <= step < STEPS
    assert printed(run).count(SHARED) == 2
    return step
