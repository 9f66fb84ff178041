"""Jobs as processes of this machine that share its GPUs."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_cluster import Job
from processes import until
from snakemake_executor_plugin_submitit.backends import LocalBackend, NoFreeGpuError
from snakemake_executor_plugin_submitit.ledger import Entry, JobBatch, new_batch
from snakemake_executor_plugin_submitit.payload import Payload
from snakemake_executor_plugin_submitit.request import RequestError, request_of
from snakemake_executor_plugin_submitit.settings import ExecutorSettings

WAITING = "echo $CUDA_VISIBLE_DEVICES > gpus; echo $$ > pid; until test -e go; do sleep 0.05; done"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBackend]:
    """Yield a local backend with the GPUs 4 and 6; end its jobs after the test."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    backend = LocalBackend(ExecutorSettings())
    yield backend
    Path("go").touch()
    until(lambda: not backend.queue())


def submit(backend: LocalBackend, command: str, gpu: int = 0) -> JobBatch:
    entry = Entry("key", "digest", "train", {}, ["out"], [])
    batch = new_batch("local", [entry])
    folder = Path("logs", batch.name).absolute()
    folder.mkdir(parents=True)
    request = request_of(Job(gpu=gpu), ExecutorSettings())
    backend.submit(batch, folder, request, [Payload(command, str(folder / "stop"), 1)])
    batch.write()
    return batch


def outcome(backend: LocalBackend, batch: JobBatch) -> str:
    until(lambda: batch.jobs[0].id not in backend.queue())
    result = backend.outcome(batch.jobs[0])
    assert result
    return result[0]


def test_two_jobs_run_at_once_and_report_their_results(machine: LocalBackend) -> None:
    good, bad = submit(machine, "true"), submit(machine, "exit 3")
    assert outcome(machine, good) == "success"
    assert outcome(machine, bad) == "error"


def test_gpus_are_reserved_until_a_job_ends(machine: LocalBackend) -> None:
    first = submit(machine, WAITING, gpu=1)
    until(lambda: Path("gpus").exists() and Path("gpus").read_text())
    assert Path("gpus").read_text() == "4\n"
    with pytest.raises(NoFreeGpuError):
        submit(machine, "true", gpu=2)
    second = submit(machine, "echo $CUDA_VISIBLE_DEVICES > second", gpu=1)
    assert outcome(machine, second) == "success"
    assert Path("second").read_text() == "6\n"
    Path("go").touch()
    assert outcome(machine, first) == "success"
    both = submit(machine, "echo $CUDA_VISIBLE_DEVICES > both", gpu=2)
    assert outcome(machine, both) == "success"
    assert Path("both").read_text() == "4,6\n"


def test_a_job_without_gpus_reserves_none(machine: LocalBackend) -> None:
    light = submit(machine, WAITING)
    until(lambda: Path("pid").exists())
    assert light.jobs[0].id in machine.queue()
    assert outcome(machine, submit(machine, "true", gpu=2)) == "success"


def test_a_new_job_is_queued_before_its_process_has_a_command_line(
    machine: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: [])
    batch = submit(machine, WAITING, gpu=1)
    assert list(machine.queue()) == [batch.jobs[0].id]
    with pytest.raises(NoFreeGpuError):
        submit(machine, "true", gpu=2)


def test_requesting_more_gpus_than_the_machine_has_is_an_error(machine: LocalBackend) -> None:
    with pytest.raises(RequestError, match="resource 'gpu' is 3, but this machine has 2 GPUs"):
        submit(machine, "true", gpu=3)


def test_a_cancelled_job_ends_with_its_command(machine: LocalBackend) -> None:
    batch = submit(machine, WAITING)
    until(lambda: Path("pid").exists() and Path("pid").read_text())
    machine.cancel([str(batch.jobs[0].id)])
    until(lambda: not psutil.pid_exists(int(Path("pid").read_text())))
    until(lambda: not machine.queue())


def test_an_adopted_job_keeps_its_gpus(machine: LocalBackend) -> None:
    batch = submit(machine, WAITING, gpu=2)
    again = LocalBackend(ExecutorSettings())
    (entry,) = batch.jobs
    assert again.queue()[str(entry.id)].comment == batch.comment
    again.adopt(entry, Path("logs", batch.name), Payload("true", "stop", 1), 60)
    with pytest.raises(NoFreeGpuError):
        submit(again, "true", gpu=1)


@pytest.mark.parametrize("names", ["GPU-8f2e3c1a", "MIG-5c3a,MIG-77ab"])
def test_gpus_are_counted_by_number_or_name(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    assert len(LocalBackend(ExecutorSettings()).gpus) == len(names.split(","))
