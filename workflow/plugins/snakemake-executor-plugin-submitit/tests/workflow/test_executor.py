"""The executor reports the end of each job to Snakemake exactly once."""

from pathlib import Path

import pytest
from fake_cluster import Cluster, job, queued
from manual_executor import Start
from snakemake_executor_plugin_submitit import ledger
from snakemake_executor_plugin_submitit import task as tasks
from snakemake_executor_plugin_submitit.slurm import Accounted

OOM = Accounted(("OUT_OF_MEMORY",), "0:125", "lab1")
LOST = Accounted(("NODE_FAIL",), "0:0", "lab1")


def test_a_successful_job_is_reported_and_removed_from_the_ledger(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor()
    (started_job,) = executor.start("one")
    assert started_job.registered == ["57"]
    assert executor.query() == ["one"]
    cluster.end("57", "COMPLETED", "success", "")
    assert executor.query() == []
    assert (executor.done, executor.failed, ledger.entries()) == (["one"], {}, [])


def test_jobs_started_together_are_one_array(new_executor: Start, cluster: Cluster) -> None:
    new_executor().start("a", "b", "c")
    assert [ids for ids, _, _ in cluster.submitted] == [["57_0", "57_1", "57_2"]]


def test_a_failure_is_reported_with_cause_log_and_last_lines(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor()
    executor.start("one", "two")
    Path("logs/one.log").write_text("".join(f"step {n}\n" for n in range(50)) + "KeyError: 'p7'\n")
    cluster.end("57_0", "FAILED", "error", "CommandError: the command failed with exit status 1")
    assert executor.query() == ["two"]
    first, *lines = executor.failed["one"].splitlines()
    assert first == "job 57_0 (train run=one): exception: KeyError: 'p7'; log: logs/one.log"
    assert lines[-1] == "    KeyError: 'p7'" and lines[0] == "    step 31"
    (failure,) = (entry for entry in ledger.entries() if entry.verdict)
    assert failure.verdict == {"cause": "exception", "text": "KeyError: 'p7'"}
    assert (failure.id, failure.outputs) == ("57_0", ["out/one"])


def test_a_resubmitted_job_has_no_failure_in_the_ledger(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor()
    executor.start("one")
    cluster.end("57", "FAILED", "error", "")
    executor.query()
    executor.start("one")
    (entry,) = ledger.entries()
    assert entry.id == "58" and entry.verdict is None


def test_memory_is_doubled_up_to_the_number_of_retries(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor(oom_retries=2)
    executor.start("one", mem_mb=1000)
    for number in (57, 58, 59):
        assert not executor.failed
        cluster.end(str(number), "OUT_OF_MEMORY", record=OOM)
        executor.query(2)
    assert [request.mem_mb for _, request, _ in cluster.submitted] == [1000, 2000, 4000]
    assert "out of memory: the job had requested 4000 MB" in executor.failed["one"]


def test_a_lost_job_is_submitted_again_up_to_the_number_of_restarts(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor(restarts=1, doubt_seconds=0)
    executor.start("one")
    cluster.end("57", "NODE_FAIL", record=LOST)
    executor.query(2)
    assert cluster.live == ["58"] and not executor.failed
    cluster.end("58", "NODE_FAIL", record=LOST)
    executor.query(2)
    assert executor.failed["one"].startswith("job 58 (train run=one): node lost: node lab1 failed")


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_failed_and_cancelled_jobs_are_not_submitted_again(
    state: str, new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor()
    executor.start("one")
    cluster.end("57", state)
    executor.query(2)
    assert list(executor.failed) == ["one"] and len(cluster.submitted) == 1


def test_a_requeued_job_is_not_submitted_again(new_executor: Start, cluster: Cluster) -> None:
    """Slurm reports NODE_FAIL or PREEMPTED for some seconds before it reports PENDING."""
    executor = new_executor(doubt_seconds=3600)
    executor.start("one")
    for state in ("NODE_FAIL", "PENDING", "RUNNING", "PREEMPTED", "PENDING", "RUNNING"):
        cluster.end("57", state, "error", "CalledProcessError: scontrol requeue")
        assert executor.query() == ["one"]
    cluster.end("57", "COMPLETED", "success", "")
    executor.query()
    assert executor.done == ["one"] and len(cluster.submitted) == 1


def test_no_job_ends_while_slurm_does_not_answer(
    new_executor: Start, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    executor = new_executor()
    executor.start("one")
    cluster.silent = "Unable to contact slurm controller"
    executor.run_job(job("two"))
    assert executor.query(5) == ["one", "two"]
    assert caplog.text.count("Unable to contact slurm controller") == 1
    cluster.silent = ""
    executor.query()
    assert "answers again" in caplog.text and cluster.live == ["57", "58"]


def test_accounting_is_read_once_and_only_for_ended_jobs(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor(doubt_seconds=3600)
    executor.start("a", "b", "c", "d")
    executor.query()
    assert cluster.accounting_queries == []
    cluster.end("57_0", "COMPLETED", "success", "")
    cluster.end("57_1", "NODE_FAIL")
    del cluster.jobs["57_2"]
    executor.query()
    assert cluster.accounting_queries == [["57_1", "57_2"]]


def test_an_invalid_job_fails_and_others_continue(new_executor: Start, cluster: Cluster) -> None:
    executor = new_executor()
    executor.start("good")
    executor.start("bad", gpu="two")
    assert "resource 'gpu' is 'two'" in executor.failed["bad"]
    assert executor.query() == ["good"]


def test_an_unexpected_error_in_the_submission_ends_no_job(
    new_executor: Start, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    executor = new_executor()
    cluster.answers = [MemoryError("no more")]
    executor.start("one")
    assert "no more" in caplog.text
    assert executor.query() == ["one"] and cluster.live == ["57"]


@pytest.mark.parametrize("result", ["success", "error"])
def test_no_job_is_lost_if_the_ledger_cannot_be_written(
    result: str, new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor()
    executor.start("one", "two")
    ledger.ROOT.rename("elsewhere")
    ledger.ROOT.write_text("no folder")
    cluster.end("57_0", "FAILED" if result == "error" else "COMPLETED", result, "")
    executor.query(2)
    ledger.ROOT.unlink()
    Path("elsewhere").rename(ledger.ROOT)
    executor.query(2)
    assert [*executor.done, *executor.failed] == ["one"]


def test_a_failed_submission_does_not_block_the_end_of_other_jobs(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor()
    executor.start("one")
    ledger.ROOT.rename("elsewhere")
    ledger.ROOT.write_text("no folder")
    executor.run_job(job("two"))
    cluster.end("57", "COMPLETED", "success", "")
    executor.query()
    assert executor.done == ["one"]


def test_a_lasting_reason_for_pending_is_reported_once(
    new_executor: Start,
    cluster: Cluster,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "PENDING_SECONDS", 0)
    executor = new_executor()
    executor.start("one")
    for reason in ("Priority", "Resources", "PartitionConfig", "PartitionConfig", "Resources"):
        cluster.jobs["57"] = queued("57", "PENDING", cluster.jobs["57"].comment, reason)
        executor.query()
    reports = [line for line in caplog.messages if "is pending" in line]
    assert reports == ["job 57 (train run=one) is pending: PartitionConfig"]


@pytest.mark.parametrize(("choice", "cancelled"), [("leave", []), ("cancel", ["57"])])
def test_an_interrupt_leaves_or_cancels_jobs(
    choice: str, cancelled: list[str], new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor(on_interrupt=choice)
    executor.start("one")
    executor.cancel_jobs(executor.active)
    assert cluster.cancelled == cancelled
    executor.run_job(job("two"))
    executor.query()
    assert cluster.live == ["57"], "no job is submitted after an interrupt"


def test_without_a_terminal_an_interrupt_leaves_jobs_for_adoption(
    new_executor: Start, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    executor = new_executor()
    executor.start("one")
    executor.cancel_jobs(executor.active)
    assert cluster.cancelled == [] and "scancel 57" in caplog.text
    next_executor = new_executor()
    next_executor.start("one")
    assert len(cluster.submitted) == 1
    cluster.end("57", "COMPLETED", "success", "")
    next_executor.query()
    assert next_executor.done == ["one"]


def test_queries_become_rarer_while_no_job_changes(new_executor: Start, cluster: Cluster) -> None:
    executor = new_executor(poll_seconds=4, poll_max_seconds=10)
    executor.start("one")
    intervals = []
    for _ in range(5):
        executor.query()
        intervals.append(executor.poll_seconds)
    assert intervals == [6, 9, 10, 10, 10]
    cluster.end("57", "COMPLETED", "success", "")
    executor.query()
    assert executor.poll_seconds == 4
