"""Submitting once, and only once: refusals, limits, and jobs that are in the queue already."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from snakemake_executor_plugin_submitit import ledger
from snakemake_executor_plugin_submitit.backends import NoFreeGpuError
from snakemake_executor_plugin_submitit.ledger import new_batch
from snakemake_executor_plugin_submitit.request import RequestError
from snakemake_executor_plugin_submitit.slurm import SlurmError
from snakemake_executor_plugin_submitit.submission import Submitter

from tests.plugin.jobs import Cluster, queued, task

New = Callable[..., Submitter]
AWAY = SlurmError("Batch job submission failed: Unable to contact slurm controller")
TIMED_OUT = SlurmError("Batch job submission failed: Socket timed out on send/recv operation")
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
FULL = SlurmError(f"QOSMaxSubmitJobPerUserLimit; Batch job submission failed: {POLICY}")
TOO_LONG = SlurmError(f"QOSMaxWallDurationPerJobLimit; Batch job submission failed: {POLICY}")
NO_PARTITION = SlurmError("invalid partition specified: nonsuch")
RUNS = ("a", "b", "c", "d")


def tell_time(submitter: Submitter) -> None:
    """Let the time come at which a refused submission is tried again."""
    submitter.not_before = 0.0


# Submissions


def test_jobs_that_ask_for_the_same_are_one_array(cluster: Cluster, submitter: New) -> None:
    tasks = [task(run, command=f"train {run}") for run in RUNS]
    assert submitter().place(tasks, {}) == {}
    ((ids, _, _),) = cluster.submitted
    assert [each.entry.id for each in tasks] == ids == [f"57_{i}" for i in range(4)]
    (batch,) = ledger.batches()
    assert [entry.outputs for entry in batch.jobs] == [[f"out/{run}"] for run in RUNS]
    assert cluster.jobs["57_0"].comment == batch.comment


def test_jobs_that_ask_for_something_else_are_not(cluster: Cluster, submitter: New) -> None:
    submitter().place([task("a", gpu=1), task("b", gpu=2), task("c", rule="table", gpu=1)], {})
    assert [request.gpus for _, request, _ in cluster.submitted] == [1, 2, 1]


def test_an_array_is_as_large_as_allowed(cluster: Cluster, submitter: New) -> None:
    cluster.batch_limit = 3
    submitter().place([task(str(number)) for number in range(8)], {})
    assert [len(ids) for ids, _, _ in cluster.submitted] == [3, 3, 2]


def test_the_ledger_is_written_before_sbatch_is_called(cluster: Cluster, submitter: New) -> None:
    cluster.answers = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        submitter().place([task()], {})
    (entry,) = ledger.entries()
    assert entry.id is None and entry.outputs == ["out/one"]


# Refusals


@pytest.mark.parametrize("answer", [AWAY, TIMED_OUT])
def test_a_controller_that_is_away_is_asked_again(
    answer: SlurmError, cluster: Cluster, submitter: New, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.answers, started, tasks = [answer, answer], submitter(), [task("a"), task("b")]
    waits = []
    for _ in range(2):
        assert started.place(tasks, {}) == {}
        waits.append(started.wait)
        assert started.place(tasks, {}) == {}, "it is too early"
        tell_time(started)
    assert waits == [2, 4]
    assert "Batch job submission failed" in caplog.text and "2 jobs" in caplog.text
    assert started.place(tasks, {}) == {}
    assert cluster.live == ["57_0", "57_1"]
    assert len(ledger.batches()) == 1
    assert started.wait == 0


def test_waits_do_not_grow_for_ever(cluster: Cluster, submitter: New) -> None:
    cluster.answers, started, tasks = [AWAY] * 10, submitter(), [task()]
    for _ in range(10):
        assert started.place(tasks, {}) == {}
        tell_time(started)
    assert started.wait == 60


def test_a_submission_that_timed_out_and_worked_is_not_repeated(
    cluster: Cluster, submitter: New
) -> None:
    cluster.answers, started, tasks = [TIMED_OUT], submitter(), [task("a"), task("b")]
    started.place(tasks, {})
    (batch,) = ledger.batches()
    ids = cluster.accept(batch.comment, 2)
    tell_time(started)
    assert started.place(tasks, cluster.queue()) == {}
    assert cluster.submitted == []
    assert [each.entry.id for each in tasks] == cluster.adopted == ids


def test_a_controller_that_stays_away_is_given_up(cluster: Cluster, submitter: New) -> None:
    cluster.answers, started, each = [AWAY, AWAY], submitter(controller_minutes=0), task()
    started.place([each], {})
    tell_time(started)
    refused = started.place([each], {})
    assert "Unable to contact slurm controller" in refused[each]


def test_a_job_that_the_cluster_refuses_is_told(cluster: Cluster, submitter: New) -> None:
    cluster.answers, tasks = [NO_PARTITION], [task("a", slurm_partition="nonsuch"), task("b")]
    refused = submitter().place(tasks, {})
    assert set(refused) == {tasks[0]}
    assert "invalid partition specified: nonsuch" in refused[tasks[0]]
    assert tasks[1].entry.id


def test_what_no_job_can_be_made_of_is_told(cluster: Cluster, submitter: New) -> None:
    cluster.answers, each = [RequestError("asks for 3 GPUs; this machine has 2")], task()
    assert submitter().place([each], {}) == {each: "asks for 3 GPUs; this machine has 2"}


def test_a_full_queue_halves_the_array_until_it_fits(cluster: Cluster, submitter: New) -> None:
    cluster.answers, started = [FULL, FULL], submitter()
    cluster.batch_limit = started.array_size = 8
    tasks = [task(str(number)) for number in range(8)]
    for _ in range(3):
        assert started.place(tasks, {}) == {}
        tell_time(started)
    assert [len(ids) for ids, _, _ in cluster.submitted] == [2, 2, 2, 2]
    assert len(cluster.live) == 8


def test_a_queue_that_stays_full_of_ones_own_jobs_is_waited_for(
    cluster: Cluster, submitter: New
) -> None:
    started, last = submitter(controller_minutes=0), task("last")
    started.place([task("first")], {})
    cluster.answers = [FULL] * 3
    for _ in range(3):
        assert started.place([last], cluster.queue()) == {}
        tell_time(started)
    started.place([last], cluster.queue())
    assert last.entry.id


def test_a_job_that_breaks_a_rule_of_its_qos_is_not_tried_for_ever(
    cluster: Cluster, submitter: New
) -> None:
    started, each = submitter(), task("long", runtime=90_000)
    started.place([task("short")], {})
    cluster.answers = [TOO_LONG]
    assert "QOSMaxWallDurationPerJobLimit" in started.place([each], cluster.queue())[each]


def test_a_job_without_gpus_does_not_wait_for_them(cluster: Cluster, submitter: New) -> None:
    cluster.answers = [NoFreeGpuError()]
    light = task("light")
    submitter().place([task("heavy", gpu=1), light], {})
    assert light.entry.id


def test_refusals_leave_no_folders(cluster: Cluster, submitter: New) -> None:
    cluster.answers, started, each = [AWAY] * 3, submitter(), task()
    for _ in range(4):
        started.place([each], {})
        tell_time(started)
    assert len(list(Path("logs/slurm/train").iterdir())) == 1


# Adoption, after the process that submitted has died


def left_behind(cluster: Cluster, submitter: New, *runs: str) -> list[str]:
    """Submit jobs as a process that dies then; return their ids."""
    tasks = [task(run) for run in runs]
    submitter().place(tasks, {})
    cluster.submitted.clear()
    return [str(each.entry.id) for each in tasks]


def test_jobs_in_the_queue_are_taken_over(
    cluster: Cluster, submitter: New, caplog: pytest.LogCaptureFixture
) -> None:
    ids = left_behind(cluster, submitter, "a", "b")
    tasks = [task("b"), task("a"), task("c")]
    submitter().place(tasks, cluster.queue())
    assert [each.entry.id for each in tasks[:2]] == ids[::-1]
    assert [len(submitted) for submitted, _, _ in cluster.submitted] == [1]
    assert f"job {ids[0]} (train run=a) is in the queue already" in caplog.text


@pytest.mark.parametrize("several", [False, True])
def test_a_submission_that_was_never_confirmed_is_found(
    several: bool, cluster: Cluster, submitter: New
) -> None:
    """The process was killed while it waited for sbatch."""
    tasks = [task(run) for run in (RUNS if several else RUNS[:1])]
    batch = new_batch("slurm", [each.entry for each in tasks])
    batch.write()
    ids = cluster.accept(batch.comment, len(tasks))
    again = [task(each.entry.wildcards["run"]) for each in reversed(tasks)]
    submitter().place(again, cluster.queue())
    assert cluster.submitted == []
    assert [each.entry.id for each in again] == ids[::-1] == cluster.adopted
    assert {entry.id for entry in ledger.entries()} == set(ids)


def test_one_that_never_reached_the_queue_is_submitted(cluster: Cluster, submitter: New) -> None:
    new_batch("slurm", [task().entry]).write()
    each = task()
    submitter().place([each], {})
    assert each.entry.id and len(ledger.entries()) == 1


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "TIMEOUT", "COMPLETED"])
def test_one_that_ended_unwatched_is_submitted_again(
    state: str, cluster: Cluster, submitter: New
) -> None:
    (id,) = left_behind(cluster, submitter, "a")
    cluster.end(id, state)
    each = task("a")
    submitter().place([each], cluster.queue())
    assert each.entry.id not in {None, id}
    assert len(ledger.entries()) == 1


@pytest.mark.parametrize("remembered", [True, False])
def test_one_that_succeeded_after_the_plan_was_made_is_not_repeated(
    remembered: bool, cluster: Cluster, submitter: New
) -> None:
    (id,) = left_behind(cluster, submitter, "a")
    cluster.end(id, "COMPLETED", "success", "")
    started, each = submitter(), task("a")
    started.place([each], cluster.queue() if remembered else {})
    assert each.entry.id == id and cluster.submitted == []


def test_a_job_with_another_command_is_taken_over_with_a_warning(
    cluster: Cluster, submitter: New, caplog: pytest.LogCaptureFixture
) -> None:
    (id,) = left_behind(cluster, submitter, "a")
    each = task("a", command="another")
    submitter().place([each], cluster.queue())
    assert each.entry.id == id
    (warning,) = (line for line in caplog.records if line.levelno == logging.WARNING)
    assert "its command is another one" in warning.getMessage()


def test_a_job_of_another_project_is_not_ones_own(cluster: Cluster, submitter: New) -> None:
    cluster.jobs["12"] = queued("12", comment="snakemake:20260101-000000-abcdef")
    each = task()
    submitter().place([each], cluster.queue())
    assert each.entry.id != "12"


def test_a_job_that_waits_for_its_turn_is_still_known_then(
    cluster: Cluster, submitter: New
) -> None:
    """Snakemake hands over jobs by and by; one adopted late must not be forgotten."""
    ids = left_behind(cluster, submitter, "a", "b")
    started, late = submitter(), task("b")
    started.place([task("a")], cluster.queue())
    started.place([late], cluster.queue())
    assert late.entry.id == ids[1] and cluster.submitted == []


def test_jobs_of_another_kind_of_cluster_are_left_alone(cluster: Cluster, submitter: New) -> None:
    left_behind(cluster, submitter, "a")
    cluster.name = "local"
    submitter().place([task("b")], {})
    assert sorted(entry.cluster for entry in ledger.entries()) == ["local", "slurm"]


def test_a_retried_memory_is_remembered(cluster: Cluster, submitter: New) -> None:
    first = task("a")
    first.request = first.request.with_memory(16_000)
    first.entry.attempt, first.entry.mem_mb = 3, 16_000
    submitter().place([first], {})
    again = task("a")
    submitter().place([again], cluster.queue())
    assert (again.entry.attempt, again.request.mem_mb) == (3, 16_000)


def test_a_job_taken_over_keeps_its_log(cluster: Cluster, submitter: New) -> None:
    """The folder of logs may be another one by now."""
    first, again = task("a"), task("a")
    submitter().place([first], {})
    submitter(log_folder="elsewhere").place([again], cluster.queue())
    assert again.entry.id == first.entry.id
    assert again.batch and again.batch.folder == first.batch.folder
    assert Path(first.batch.folder).parts[:2] == ("logs", "slurm")
