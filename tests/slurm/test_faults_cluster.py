"""A cluster that fails: its controller, its accounting, its nodes."""

import time

import pytest

from tests.slurm.conftest import Case
from tests.slurm.lab import wait_for
from tests.slurm.projects import Plain

pytestmark = pytest.mark.slurm_full
OUTAGE = 60
WAIT = {"do": "wait"}


def test_the_controller_is_down_while_jobs_run(case: Case) -> None:
    project = Plain(case.folder, good=WAIT, bad={"do": "wait", "then": "fail"})
    flow = case.snakemake()
    wait_for(lambda: len(project.histories) == 2, 90, "both to run")
    case.lab.fault("ctld-down")
    project.go()
    time.sleep(OUTAGE)
    case.lab.fault("ctld-up")
    case.fails(flow, "bad", "exception: ValueError")
    assert len(flow.lines("does not answer")) == len(flow.lines("answers again")) == 1
    assert project.finished("good")
    assert project.histories.count(["start", "end"]) == 1
    assert case.sampler.submissions == [1, 1]
    case.shows("one warning, then what became of the jobs meanwhile")


def test_the_controller_is_down_at_submission(case: Case) -> None:
    project = Plain(case.folder, first={}, second={})
    case.lab.fault("ctld-down")
    flow = case.snakemake()
    flow.wait_for("does not answer|submitted again in", 60)
    time.sleep(OUTAGE)
    case.lab.fault("ctld-up")
    assert flow.wait() == 0, flow.output
    assert project.histories == [["start", "end"]] * 2
    assert case.sampler.submissions == [1, 1]
    case.has_nothing_to_do()
    case.shows("waits, then submits each job once")


def test_the_controller_goes_between_the_look_and_the_submission(case: Case) -> None:
    project = Plain(case.folder, first={}, second={})
    path = case.wrap_sbatch(
        "if [ ! -e down ]; then touch down; echo 'sbatch: error: Batch job submission failed: "
        "Unable to contact slurm controller (connect failure)' >&2; exit 1; fi\n"
        'exec "$sbatch" "$@"'
    )
    flow = case.snakemake(PATH=path)
    assert flow.wait() == 0, flow.output
    (line,) = flow.lines("submitted again in")
    assert "Unable to contact slurm controller" in line
    assert project.histories == [["start", "end"]] * 2
    case.shows(f"'{line}'")


def test_accounting_goes_away(case: Case) -> None:
    project = Plain(case.folder, bad={"do": "wait", "then": "fail"}, killed=WAIT)
    flow = case.snakemake()
    wait_for(lambda: len(project.histories) == 2, 90, "both to run")
    case.lab.fault("dbd-down")
    case.lab.run("scancel", case.sampler.job_of("killed"))
    project.go()
    case.fails(flow, "bad", "exception: ValueError")
    case.fails(flow, "killed", "cancelled")
    case.shows("the same causes")


def test_a_node_is_lost(case: Case) -> None:
    project = Plain(case.folder, first={**WAIT, "gpu": 2}, second={**WAIT, "gpu": 2})
    flow = case.snakemake()
    wait_for(lambda: len(project.histories) == 2, 90, "both to run")
    lost = case.sampler.job_of("first")
    (node,) = (job.node for job in case.lab.queue() if job.id == lost)
    case.lab.fault("node-lost", node)
    wait_for(lambda: lost in case.lab.jobs("PENDING"), 90, "the job to be requeued")
    project.go()
    assert flow.wait(180) == 0, flow.output
    assert project.history("first") == ["start", "start", "end"]
    assert project.history("second") == ["start", "end"]
    assert case.sampler.submissions == [1, 1]
    case.has_nothing_to_do()
    case.shows("requeued under its id, done on the other node")
