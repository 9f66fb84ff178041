"""Every job is submitted once: refusals, limits, and jobs that are already queued."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cluster import Cluster, queued, task
from snakemake_executor_plugin_submitit import ledger
from snakemake_executor_plugin_submitit.backends import NoFreeGpuError
from snakemake_executor_plugin_submitit.ledger import new_batch
from snakemake_executor_plugin_submitit.request import RequestError
from snakemake_executor_plugin_submitit.slurm import SlurmError
from snakemake_executor_plugin_submitit.submission import Submitter

New = Callable[..., Submitter]
AWAY = SlurmError("Batch job submission failed: Unable to contact slurm controller")
TIMED_OUT = SlurmError("Batch job submission failed: Socket timed out on send/recv operation")
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
FULL = SlurmError(f"QOSMaxSubmitJobPerUserLimit; Batch job submission failed: {POLICY}")
TOO_LONG = SlurmError(f"QOSMaxWallDurationPerJobLimit; Batch job submission failed: {POLICY}")
NO_PARTITION = SlurmError("invalid partition specified: nonsuch")
RUNS = ("a", "b", "c", "d")


def end_delay(submitter: Submitter) -> None:
    """End the delay before a refused submission is retried."""
    submitter.not_before = 0.0


# Submissions


def test_equal_requests_are_one_array(cluster: Cluster, new_submitter: New) -> None:
    tasks = [task(run, command=f"train {run}") for run in RUNS]
    assert new_submitter().place(tasks, {}) == {}
    ((ids, _, _),) = cluster.submitted
    assert [task.entry.id for task in tasks] == ids == [f"57_{i}" for i in range(4)]
    (batch,) = ledger.batches()
    assert [entry.outputs for entry in batch.jobs] == [[f"out/{run}"] for run in RUNS]
    assert cluster.jobs["57_0"].comment == batch.comment


def test_different_requests_are_separate_submissions(cluster: Cluster, new_submitter: New) -> None:
    new_submitter().place([task("a", gpu=1), task("b", gpu=2), task("c", rule="table", gpu=1)], {})
    assert [request.gpus for _, request, _ in cluster.submitted] == [1, 2, 1]


def test_an_array_has_at_most_the_allowed_size(cluster: Cluster, new_submitter: New) -> None:
    cluster.batch_limit = 3
    new_submitter().place([task(str(number)) for number in range(8)], {})
    assert [len(ids) for ids, _, _ in cluster.submitted] == [3, 3, 2]


def test_the_ledger_is_written_before_sbatch_is_called(
    cluster: Cluster, new_submitter: New
) -> None:
    cluster.answers = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        new_submitter().place([task()], {})
    (entry,) = ledger.entries()
    assert entry.id is None and entry.outputs == ["out/one"]


# Refusals


@pytest.mark.parametrize("answer", [AWAY, TIMED_OUT])
def test_a_submission_is_retried_while_the_controller_is_away(
    answer: SlurmError, cluster: Cluster, new_submitter: New, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.answers, submitter, tasks = [answer, answer], new_submitter(), [task("a"), task("b")]
    waits = []
    for _ in range(2):
        assert submitter.place(tasks, {}) == {}
        waits.append(submitter.wait)
        assert submitter.place(tasks, {}) == {}, "no retry during the delay"
        end_delay(submitter)
    assert waits == [2, 4]
    assert "Batch job submission failed" in caplog.text and "Retrying 2 jobs" in caplog.text
    assert submitter.place(tasks, {}) == {}
    assert cluster.live == ["57_0", "57_1"]
    assert len(ledger.batches()) == 1
    assert submitter.wait == 0


def test_delays_between_retries_are_limited(cluster: Cluster, new_submitter: New) -> None:
    cluster.answers, submitter, tasks = [AWAY] * 10, new_submitter(), [task()]
    for _ in range(10):
        assert submitter.place(tasks, {}) == {}
        end_delay(submitter)
    assert submitter.wait == 60


def test_a_submission_that_timed_out_but_succeeded_is_not_repeated(
    cluster: Cluster, new_submitter: New
) -> None:
    cluster.answers, submitter, tasks = [TIMED_OUT], new_submitter(), [task("a"), task("b")]
    submitter.place(tasks, {})
    (batch,) = ledger.batches()
    ids = cluster.accept(batch.comment, 2)
    end_delay(submitter)
    assert submitter.place(tasks, cluster.queue()) == {}
    assert cluster.submitted == []
    assert [task.entry.id for task in tasks] == cluster.adopted == ids


def test_a_job_fails_if_the_controller_stays_away(cluster: Cluster, new_submitter: New) -> None:
    cluster.answers, submitter, new_task = [AWAY, AWAY], new_submitter(controller_minutes=0), task()
    submitter.place([new_task], {})
    end_delay(submitter)
    refused = submitter.place([new_task], {})
    assert "Unable to contact slurm controller" in refused[new_task]


def test_a_job_that_the_cluster_refuses_fails(cluster: Cluster, new_submitter: New) -> None:
    cluster.answers, tasks = [NO_PARTITION], [task("a", slurm_partition="nonsuch"), task("b")]
    refused = new_submitter().place(tasks, {})
    assert set(refused) == {tasks[0]}
    assert "invalid partition specified: nonsuch" in refused[tasks[0]]
    assert tasks[1].entry.id


def test_a_job_with_an_impossible_request_fails(cluster: Cluster, new_submitter: New) -> None:
    cluster.answers, impossible = [RequestError("too many GPUs")], task()
    assert new_submitter().place([impossible], {}) == {impossible: "too many GPUs"}


def test_a_full_queue_halves_the_array_until_it_fits(cluster: Cluster, new_submitter: New) -> None:
    cluster.answers, submitter = [FULL, FULL], new_submitter()
    cluster.batch_limit = submitter.array_size = 8
    tasks = [task(str(number)) for number in range(8)]
    for _ in range(3):
        assert submitter.place(tasks, {}) == {}
        end_delay(submitter)
    assert [len(ids) for ids, _, _ in cluster.submitted] == [2, 2, 2, 2]
    assert len(cluster.live) == 8


def test_a_job_waits_while_the_queue_is_full_of_the_users_jobs(
    cluster: Cluster, new_submitter: New
) -> None:
    submitter, last = new_submitter(controller_minutes=0), task("last")
    submitter.place([task("first")], {})
    cluster.answers = [FULL] * 3
    for _ in range(3):
        assert submitter.place([last], cluster.queue()) == {}
        end_delay(submitter)
    submitter.place([last], cluster.queue())
    assert last.entry.id


def test_a_job_that_violates_its_qos_is_not_retried(cluster: Cluster, new_submitter: New) -> None:
    submitter, new_task = new_submitter(), task("long", runtime=90_000)
    submitter.place([task("short")], {})
    cluster.answers = [TOO_LONG]
    assert "QOSMaxWallDurationPerJobLimit" in submitter.place([new_task], cluster.queue())[new_task]


def test_a_job_without_gpus_does_not_wait_for_them(cluster: Cluster, new_submitter: New) -> None:
    cluster.answers = [NoFreeGpuError()]
    light = task("light")
    new_submitter().place([task("heavy", gpu=1), light], {})
    assert light.entry.id


def test_refused_submissions_leave_no_folders(cluster: Cluster, new_submitter: New) -> None:
    cluster.answers, submitter, new_task = [AWAY] * 3, new_submitter(), task()
    for _ in range(4):
        submitter.place([new_task], {})
        end_delay(submitter)
    assert len(list(Path("logs/slurm/train").iterdir())) == 1


# Adoption, after the process that submitted has died


def left_behind(cluster: Cluster, new_submitter: New, *runs: str) -> list[str]:
    """Submit jobs from a process that dies afterwards; return their ids."""
    tasks = [task(run) for run in runs]
    new_submitter().place(tasks, {})
    cluster.submitted.clear()
    return [str(task.entry.id) for task in tasks]


def test_queued_jobs_are_adopted(
    cluster: Cluster, new_submitter: New, caplog: pytest.LogCaptureFixture
) -> None:
    ids = left_behind(cluster, new_submitter, "a", "b")
    tasks = [task("b"), task("a"), task("c")]
    new_submitter().place(tasks, cluster.queue())
    assert [task.entry.id for task in tasks[:2]] == ids[::-1]
    assert [len(submitted) for submitted, _, _ in cluster.submitted] == [1]
    assert f"Adopted job {ids[0]} (train run=a)" in caplog.text


@pytest.mark.parametrize("several", [False, True])
def test_an_unconfirmed_submission_is_adopted(
    several: bool, cluster: Cluster, new_submitter: New
) -> None:
    """The submitting process was killed while it waited for sbatch."""
    tasks = [task(run) for run in (RUNS if several else RUNS[:1])]
    batch = new_batch("slurm", [task.entry for task in tasks])
    batch.write()
    ids = cluster.accept(batch.comment, len(tasks))
    again = [task(entry.wildcards["run"]) for entry in reversed(batch.jobs)]
    new_submitter().place(again, cluster.queue())
    assert cluster.submitted == []
    assert [task.entry.id for task in again] == ids[::-1] == cluster.adopted
    assert {entry.id for entry in ledger.entries()} == set(ids)


def test_a_submission_that_never_reached_the_queue_is_repeated(
    cluster: Cluster, new_submitter: New
) -> None:
    new_batch("slurm", [task().entry]).write()
    new_task = task()
    new_submitter().place([new_task], {})
    assert new_task.entry.id and len(ledger.entries()) == 1


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "TIMEOUT", "COMPLETED"])
def test_a_job_that_failed_without_a_workflow_is_submitted_again(
    state: str, cluster: Cluster, new_submitter: New
) -> None:
    (id,) = left_behind(cluster, new_submitter, "a")
    cluster.end(id, state)
    new_task = task("a")
    new_submitter().place([new_task], cluster.queue())
    assert new_task.entry.id not in {None, id}
    assert len(ledger.entries()) == 1


@pytest.mark.parametrize("still_queued", [True, False])
def test_a_job_that_succeeded_after_planning_is_not_repeated(
    still_queued: bool, cluster: Cluster, new_submitter: New
) -> None:
    (id,) = left_behind(cluster, new_submitter, "a")
    cluster.end(id, "COMPLETED", "success", "")
    submitter, new_task = new_submitter(), task("a")
    submitter.place([new_task], cluster.queue() if still_queued else {})
    assert new_task.entry.id == id and cluster.submitted == []


def test_a_job_with_a_changed_command_is_adopted_with_a_warning(
    cluster: Cluster, new_submitter: New, caplog: pytest.LogCaptureFixture
) -> None:
    (id,) = left_behind(cluster, new_submitter, "a")
    new_task = task("a", command="another")
    new_submitter().place([new_task], cluster.queue())
    assert new_task.entry.id == id
    (warning,) = (line for line in caplog.records if line.levelno == logging.WARNING)
    assert "its command has changed" in warning.getMessage()


def test_a_job_of_another_project_is_not_adopted(cluster: Cluster, new_submitter: New) -> None:
    cluster.jobs["12"] = queued("12", comment="snakemake:20260101-000000-abcdef")
    new_task = task()
    new_submitter().place([new_task], cluster.queue())
    assert new_task.entry.id != "12"


def test_a_job_is_adopted_even_if_snakemake_starts_it_late(
    cluster: Cluster, new_submitter: New
) -> None:
    """Snakemake starts jobs one after the other; the ledger must keep those it starts later."""
    ids = left_behind(cluster, new_submitter, "a", "b")
    submitter, late = new_submitter(), task("b")
    submitter.place([task("a")], cluster.queue())
    submitter.place([late], cluster.queue())
    assert late.entry.id == ids[1] and cluster.submitted == []


def test_jobs_of_another_backend_stay_in_the_ledger(cluster: Cluster, new_submitter: New) -> None:
    left_behind(cluster, new_submitter, "a")
    cluster.name = "local"
    new_submitter().place([task("b")], {})
    assert sorted(entry.cluster for entry in ledger.entries()) == ["local", "slurm"]


def test_an_adopted_job_keeps_its_memory_and_attempt(cluster: Cluster, new_submitter: New) -> None:
    first = task("a")
    first.request = first.request.with_memory(16_000)
    first.entry.attempt, first.entry.mem_mb = 3, 16_000
    new_submitter().place([first], {})
    again = task("a")
    new_submitter().place([again], cluster.queue())
    assert (again.entry.attempt, again.request.mem_mb) == (3, 16_000)


def test_an_adopted_job_keeps_its_log(cluster: Cluster, new_submitter: New) -> None:
    """The setting of the log folder may have changed."""
    first, again = task("a"), task("a")
    new_submitter().place([first], {})
    new_submitter(log_folder="elsewhere").place([again], cluster.queue())
    assert again.entry.id == first.entry.id
    assert again.batch and again.batch.folder == first.batch.folder
    assert Path(first.batch.folder).parts[:2] == ("logs", "slurm")
