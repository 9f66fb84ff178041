"""Failures of the cluster: its controller, its accounting and its nodes."""

import time

import pytest

from tests.slurm.conftest import Case
from tests.slurm.lab import wait_for
from tests.slurm.projects import Plain

pytestmark = pytest.mark.slurm_full
OUTAGE = 60
WAIT = {"do": "wait"}


def test_jobs_continue_while_the_controller_is_down(case: Case) -> None:
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
    case.report("one warning, then the ends of the jobs are reported")


def test_submission_waits_for_the_controller(case: Case) -> None:
    project = Plain(case.folder, first={}, second={})
    case.lab.fault("ctld-down")
    flow = case.snakemake()
    flow.wait_for("does not answer|Retrying", 60)
    time.sleep(OUTAGE)
    case.lab.fault("ctld-up")
    assert flow.wait() == 0, flow.output
    assert project.histories == [["start", "end"]] * 2
    assert case.sampler.submissions == [1, 1]
    case.has_nothing_to_do()
    case.report("waits, then submits each job once")


def test_the_controller_fails_between_query_and_submission(case: Case) -> None:
    project = Plain(case.folder, first={}, second={})
    path = case.wrap_sbatch(
        "if [ ! -e down ]; then touch down; echo 'sbatch: error: Batch job submission failed: "
        "Unable to contact slurm controller (connect failure)' >&2; exit 1; fi\n"
        'exec "$sbatch" "$@"'
    )
    flow = case.snakemake(PATH=path)
    assert flow.wait() == 0, flow.output
    (line,) = flow.lines("Retrying")
    assert "Unable to contact slurm controller" in line
    assert project.histories == [["start", "end"]] * 2
    case.report(f"'{line}'")


def test_causes_are_known_while_accounting_is_down(case: Case) -> None:
    project = Plain(case.folder, bad={"do": "wait", "then": "fail"}, killed=WAIT)
    flow = case.snakemake()
    wait_for(lambda: len(project.histories) == 2, 90, "both to run")
    case.lab.fault("dbd-down")
    case.lab.run("scancel", case.sampler.job_of("killed"))
    project.go()
    case.fails(flow, "bad", "exception: ValueError")
    case.fails(flow, "killed", "cancelled")
    case.report("the same causes")


def test_a_job_on_a_lost_node_is_requeued(case: Case) -> None:
    project = Plain(case.folder, first={**WAIT, "gpu": 2}, second={**WAIT, "gpu": 2})
    flow = case.snakemake()
    wait_for(lambda: len(project.histories) == 2, 90, "both to run")
    lost_job = case.sampler.job_of("first")
    (node,) = (job.node for job in case.lab.queue() if job.id == lost_job)
    case.lab.fault("node-lost", node)
    wait_for(lambda: lost_job in case.lab.jobs("PENDING"), 90, "the job to be requeued")
    project.go()
    assert flow.wait(180) == 0, flow.output
    assert project.history("first") == ["start", "start", "end"]
    assert project.history("second") == ["start", "end"]
    assert case.sampler.submissions == [1, 1]
    case.has_nothing_to_do()
    case.report("requeued under its id, finished on the other node")
