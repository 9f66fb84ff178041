"""A job that failed on a node is submitted again to other nodes."""

from pathlib import Path

import pytest
from fake_cluster import Cluster, job
from manual_executor import Start
from snakemake_executor_plugin_submitit import ledger
from snakemake_executor_plugin_submitit.slurm import Accounted, SlurmError

LOST = Accounted(("NODE_FAIL",), "0:0", "lab1")


def excluded(cluster: Cluster) -> list[tuple[str, ...]]:
    """Return the nodes that each submission excluded."""
    return [request.excluded_nodes for _, request, _ in cluster.submitted]


def test_a_lost_node_is_excluded_from_the_next_submission(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor(doubt_seconds=0)
    executor.start("one")
    cluster.end("57", "NODE_FAIL", record=LOST)
    executor.query(times=3)
    assert excluded(cluster) == [(), ("lab1",)]
    (entry,) = ledger.entries()
    assert entry.failed_nodes == ["lab1"]


def test_the_user_may_allow_failed_nodes(new_executor: Start, cluster: Cluster) -> None:
    executor = new_executor(doubt_seconds=0, exclude_failed_nodes="no")
    executor.start("one")
    cluster.end("57", "NODE_FAIL", record=LOST)
    executor.query(times=3)
    assert excluded(cluster) == [(), ()]


def test_only_a_retry_of_snakemake_excludes_the_node_of_a_failure(
    new_executor: Start, cluster: Cluster
) -> None:
    executor = new_executor()
    executor.start("one")
    cluster.end("57", "FAILED", "error", "CUDA error: uncorrectable ECC error")
    executor.query()
    (failure,) = ledger.entries()
    assert failure.failed_nodes == ["lab1"] and list(executor.failed) == ["one"]

    retry = job("one")
    retry.attempt = 2
    executor.run_job(retry)
    executor.query()
    assert excluded(cluster) == [(), ("lab1",)]

    cluster.end("58", "FAILED", "error", "KeyError")
    executor.query()
    executor.start("one")  # by a later run, after the user has repaired something
    assert excluded(cluster)[-1] == ()


@pytest.mark.parametrize("state", ["CANCELLED", "OUT_OF_MEMORY", "TIMEOUT"])
def test_a_node_is_not_blamed_for_what_the_job_or_the_user_did(
    new_executor: Start, cluster: Cluster, state: str
) -> None:
    executor = new_executor(doubt_seconds=0, restarts=0, oom_retries=0)
    executor.start("one")
    cluster.end("57", state)
    executor.query(times=2)
    (failure,) = ledger.entries()
    assert failure.failed_nodes == []


def test_all_nodes_are_allowed_again_if_slurm_refuses_the_rest(
    new_executor: Start, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    executor = new_executor(doubt_seconds=0)
    executor.start("one")
    cluster.end("57", "NODE_FAIL", record=LOST)
    cluster.answers = [SlurmError("Requested node configuration is not available")]
    executor.query(times=4)
    assert excluded(cluster) == [(), ()]
    assert "Cannot submit without the nodes lab1, where jobs failed" in caplog.text
    assert not executor.failed


def test_a_job_that_saved_and_may_not_be_requeued_is_submitted_again_without_limit(
    new_executor: Start, cluster: Cluster, folder: Path
) -> None:
    executor = new_executor(requeue="no", restarts=1)
    executor.start("one")
    for id in ("57", "58", "59", "60"):
        error = "UncompletedJobError: Job not requeued because: the checkpoint function returned"
        cluster.end(id, "FAILED", "error", error)
        executor.query(times=2)
    assert len(cluster.submitted) == 5 and not executor.failed
    assert excluded(cluster) == [()] * 5
    (entry,) = ledger.entries()
    assert (entry.id, entry.restarts) == ("61", 0)
