"""The executor between Snakemake and a cluster: each job is reported once, whatever happens."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_submitit import Executor, ExecutorSettings, common_settings, ledger
from snakemake_executor_plugin_submitit import task as tasks
from snakemake_executor_plugin_submitit.slurm import Accounted
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from tests.plugin.jobs import Cluster, Job, job, queued

OOM = Accounted(("OUT_OF_MEMORY",), "0:125", "lab1")
LOST = Accounted(("NODE_FAIL",), "0:0", "lab1")


class Steps(Executor):
    """An executor that looks at the queue when it is told to, and notes what it reports."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self.active: list[SubmittedJobInfo] = []
        super().__init__(workflow, logger)

    def _wait_thread(self) -> None:
        """Leave all looks to the test."""

    def format_job_exec(self, job: Any) -> str:
        return str(job.shellcmd)

    def report_job_submission(self, job_info: SubmittedJobInfo, register_job: bool = True) -> None:
        self.active.append(job_info)

    def report_job_success(self, job_info: SubmittedJobInfo) -> None:
        self.done.append(self.run(job_info))

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str = "", **more: Any) -> None:
        self.failed[self.run(job_info)] = msg

    @staticmethod
    def run(info: SubmittedJobInfo) -> str:
        return str(info.job.wildcards_dict["run"])

    def look(self, times: int = 1) -> list[str]:
        """Look at the queue; return the runs that are still active."""

        async def still() -> list[SubmittedJobInfo]:
            return [info async for info in self.check_active_jobs(self.active)]

        for _ in range(times):
            self.active = asyncio.run(still())
        return [self.run(info) for info in self.active]

    def start(self, *runs: str, **more: Any) -> list[Job]:
        """Hand over jobs and look once, so that they are submitted."""
        jobs = [job(run, **more) for run in runs]
        for each in jobs:
            self.run_job(each)
        self.look()
        return jobs


@pytest.fixture
def executor(
    cluster: Cluster, folder: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., Steps]]:
    """Return executors for the cluster, whose wait threads have nothing to do."""
    caplog.set_level(logging.INFO)
    (folder / "logs").mkdir()
    made: list[Steps] = []

    def start(**settings: Any) -> Steps:
        remote = SimpleNamespace(
            max_status_checks_per_second=10, jobname="{jobid}", jobscript=None,
            seconds_between_status_checks=5, immediate_submit=False,
        )  # fmt: skip
        workflow = SimpleNamespace(
            executor_settings=ExecutorSettings(**settings), remote_execution_settings=remote,
            storage_settings=SimpleNamespace(shared_fs_usage=[]), main_snakefile="Snakefile",
            executor_plugin=SimpleNamespace(common_settings=common_settings), dag=None,
        )  # fmt: skip
        Path(".snakemake").mkdir(exist_ok=True)
        made.append(Steps(workflow, logging.getLogger("plugin")))
        return made[-1]

    yield start
    for each in made:
        each.shutdown()


Start = Callable[..., Steps]


def test_a_job_that_succeeds(executor: Start, cluster: Cluster) -> None:
    run = executor()
    (each,) = run.start("one")
    assert each.registered == ["57"]
    assert run.look() == ["one"]
    cluster.end("57", "COMPLETED", "success", "")
    assert run.look() == []
    assert (run.done, run.failed, ledger.entries()) == (["one"], {}, [])


def test_jobs_handed_over_together_are_one_array(executor: Start, cluster: Cluster) -> None:
    executor().start("a", "b", "c")
    assert [ids for ids, _, _ in cluster.submitted] == [["57_0", "57_1", "57_2"]]


def test_a_failure_is_told_with_cause_log_and_its_last_lines(
    executor: Start, cluster: Cluster
) -> None:
    run = executor()
    run.start("one", "two")
    Path("logs/one.log").write_text("".join(f"step {n}\n" for n in range(50)) + "KeyError: 'p7'\n")
    cluster.end("57_0", "FAILED", "error", "CommandError: the command ended with status 1")
    assert run.look() == ["two"]
    first, *lines = run.failed["one"].splitlines()
    assert first == "job 57_0 (train run=one): exception: KeyError: 'p7'; log: logs/one.log"
    assert lines[-1] == "    KeyError: 'p7'" and lines[0] == "    step 31"
    (failure,) = (entry for entry in ledger.entries() if entry.verdict)
    assert failure.verdict == {"cause": "exception", "text": "KeyError: 'p7'"}
    assert (failure.id, failure.outputs) == ("57_0", ["out/one"])


def test_a_failure_is_forgotten_when_the_job_is_submitted_again(
    executor: Start, cluster: Cluster
) -> None:
    run = executor()
    run.start("one")
    cluster.end("57", "FAILED", "error", "")
    run.look()
    run.start("one")
    (entry,) = ledger.entries()
    assert entry.id == "58" and entry.verdict is None


def test_memory_is_doubled_and_then_given_up(executor: Start, cluster: Cluster) -> None:
    run = executor(oom_retries=2)
    run.start("one", mem_mb=1000)
    for number in (57, 58, 59):
        assert not run.failed
        cluster.end(str(number), "OUT_OF_MEMORY", memory=OOM)
        run.look(2)
    assert [request.mem_mb for _, request, _ in cluster.submitted] == [1000, 2000, 4000]
    assert "out of memory, of which it had asked for 4000 MB" in run.failed["one"]


def test_a_lost_job_is_submitted_again_a_few_times(executor: Start, cluster: Cluster) -> None:
    run = executor(restarts=1, doubt_seconds=0)
    run.start("one")
    cluster.end("57", "NODE_FAIL", memory=LOST)
    run.look(2)
    assert cluster.live == ["58"] and not run.failed
    cluster.end("58", "NODE_FAIL", memory=LOST)
    run.look(2)
    assert run.failed["one"].startswith("job 58 (train run=one): node lost: node lab1 failed")


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_errors_and_cancelled_jobs_are_not_repeated(
    state: str, executor: Start, cluster: Cluster
) -> None:
    run = executor()
    run.start("one")
    cluster.end("57", state)
    run.look(2)
    assert list(run.failed) == ["one"] and len(cluster.submitted) == 1


def test_a_requeued_job_stays_one_job(executor: Start, cluster: Cluster) -> None:
    """Slurm says NODE_FAIL or PREEMPTED for some seconds before it says PENDING."""
    run = executor(doubt_seconds=3600)
    run.start("one")
    for state in ("NODE_FAIL", "PENDING", "RUNNING", "PREEMPTED", "PENDING", "RUNNING"):
        cluster.end("57", state, "error", "CalledProcessError: scontrol requeue")
        assert run.look() == ["one"]
    cluster.end("57", "COMPLETED", "success", "")
    run.look()
    assert run.done == ["one"] and len(cluster.submitted) == 1


def test_a_silent_slurm_ends_nothing(
    executor: Start, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    run = executor()
    run.start("one")
    cluster.silent = "Unable to contact slurm controller"
    run.run_job(job("two"))
    assert run.look(5) == ["one", "two"]
    assert caplog.text.count("Unable to contact slurm controller") == 1
    cluster.silent = ""
    run.look()
    assert "answers again" in caplog.text and cluster.live == ["57", "58"]


def test_accounting_is_asked_once_and_only_for_jobs_that_have_ended(
    executor: Start, cluster: Cluster
) -> None:
    run = executor(doubt_seconds=3600)
    run.start("a", "b", "c", "d")
    run.look()
    assert cluster.asked == []
    cluster.end("57_0", "COMPLETED", "success", "")
    cluster.end("57_1", "NODE_FAIL")
    del cluster.jobs["57_2"]
    run.look()
    assert cluster.asked == [["57_1", "57_2"]]


def test_a_refused_job_fails_and_others_go_on(executor: Start, cluster: Cluster) -> None:
    run = executor()
    run.start("good")
    run.start("bad", gpu="two")
    assert "resource 'gpu' is 'two'" in run.failed["bad"]
    assert run.look() == ["good"]


def test_an_error_in_the_submission_ends_nothing(
    executor: Start, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    run = executor()
    cluster.answers = [MemoryError("no more")]
    run.start("one")
    assert "no more" in caplog.text
    assert run.look() == ["one"] and cluster.live == ["57"]


@pytest.mark.parametrize("result", ["success", "error"])
def test_a_ledger_that_cannot_be_written_loses_no_job(
    result: str, executor: Start, cluster: Cluster
) -> None:
    run = executor()
    run.start("one", "two")
    ledger.ROOT.rename("elsewhere")
    ledger.ROOT.write_text("no folder")
    cluster.end("57_0", "FAILED" if result == "error" else "COMPLETED", result, "")
    run.look(2)
    ledger.ROOT.unlink()
    Path("elsewhere").rename(ledger.ROOT)
    run.look(2)
    assert [*run.done, *run.failed] == ["one"]


def test_a_submission_that_fails_does_not_keep_the_end_of_others(
    executor: Start, cluster: Cluster
) -> None:
    run = executor()
    run.start("one")
    ledger.ROOT.rename("elsewhere")
    ledger.ROOT.write_text("no folder")
    run.run_job(job("two"))
    cluster.end("57", "COMPLETED", "success", "")
    run.look()
    assert run.done == ["one"]


def test_a_lasting_reason_to_be_pending_is_told_once(
    executor: Start,
    cluster: Cluster,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "PENDING_SECONDS", 0)
    run = executor()
    run.start("one")
    for reason in ("Priority", "Resources", "PartitionConfig", "PartitionConfig", "Resources"):
        cluster.jobs["57"] = queued("57", "PENDING", cluster.jobs["57"].comment, reason)
        run.look()
    told = [line for line in caplog.messages if "is pending" in line]
    assert told == ["job 57 (train run=one) is pending: PartitionConfig"]


@pytest.mark.parametrize(("choice", "cancelled"), [("leave", []), ("cancel", ["57"])])
def test_an_interrupt_leaves_or_cancels_jobs(
    choice: str, cancelled: list[str], executor: Start, cluster: Cluster
) -> None:
    run = executor(on_interrupt=choice)
    run.start("one")
    run.cancel_jobs(run.active)
    assert cluster.cancelled == cancelled
    run.run_job(job("two"))
    run.look()
    assert cluster.live == ["57"], "nothing is submitted any more"


def test_without_a_terminal_an_interrupt_leaves_jobs_to_the_next_snakemake(
    executor: Start, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    run = executor()
    run.start("one")
    run.cancel_jobs(run.active)
    assert cluster.cancelled == [] and "scancel 57" in caplog.text
    again = executor()
    again.start("one")
    assert len(cluster.submitted) == 1
    cluster.end("57", "COMPLETED", "success", "")
    again.look()
    assert again.done == ["one"]


def test_looks_become_rarer_while_nothing_changes(executor: Start, cluster: Cluster) -> None:
    run = executor(poll_seconds=4, poll_max_seconds=10)
    run.start("one")
    paces = []
    for _ in range(5):
        run.look()
        paces.append(run.poll_seconds)
    assert paces == [6, 9, 10, 10, 10]
    cluster.end("57", "COMPLETED", "success", "")
    run.look()
    assert run.poll_seconds == 4
