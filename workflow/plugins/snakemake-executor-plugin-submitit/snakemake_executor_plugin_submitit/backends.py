"""Backends that run jobs: on Slurm, as processes of this machine, or inside this process."""

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any, Protocol

from snakemake_executor_plugin_submitit import slurm, verdict
from snakemake_executor_plugin_submitit.efficiency import JobUsage, usage_of_jobs
from snakemake_executor_plugin_submitit.ledger import Entry, JobBatch
from snakemake_executor_plugin_submitit.payload import Payload
from snakemake_executor_plugin_submitit.request import JobRequest, RequestError
from snakemake_executor_plugin_submitit.settings import ExecutorSettings

FOREVER_MINUTES = 60 * 24 * 365
REQUEUES = 1_000_000
SUBMITTING = ("sbatch", "srun")
"""Commands that submitit needs; it refuses a machine without srun."""


class Backend(Protocol):
    """Interface of the backends."""

    name: str
    batch_limit: int

    def queue(self) -> dict[str, slurm.Queued]:
        """Return queued and running jobs by id; raise SlurmError if they cannot be read."""

    def accounted(self, ids: Sequence[str]) -> dict[str, slurm.Accounted]:
        """Return the accounting records of jobs that have left the queue."""

    def submit(
        self, batch: JobBatch, folder: Path, request: JobRequest, payloads: list[Payload]
    ) -> None:
        """Submit a batch and set each entry's id and log; raise SlurmError if Slurm refuses."""

    def adopt(self, entry: Entry, folder: Path, payload: Payload, minutes: int) -> None:
        """Complete the submission of a job that was found in the queue."""

    def outcome(self, entry: Entry) -> tuple[str, str] | None:
        """Return the result of a job, ("success" or "error", text), or None without one."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs."""

    def usage(self, ids: Sequence[str]) -> dict[str, JobUsage]:
        """Return the measured usage of ended jobs; raise SlurmError if it cannot be read."""


class SlurmBackend:
    """Jobs on Slurm, submitted and requeued by submitit's executor, with states from the queue."""

    name = "slurm"

    def __init__(self, settings: ExecutorSettings) -> None:
        self.settings, self.batch_limit = settings, settings.array_size

    def queue(self) -> dict[str, slurm.Queued]:
        return slurm.queue(self.settings.clusters)

    def accounted(self, ids: Sequence[str]) -> dict[str, slurm.Accounted]:
        return slurm.accounted(ids, self.settings.clusters)

    def cancel(self, ids: Sequence[str]) -> None:
        slurm.cancel(ids, self.settings.clusters)

    def usage(self, ids: Sequence[str]) -> dict[str, JobUsage]:
        return usage_of_jobs(ids, self.settings.clusters)

    def submit(
        self, batch: JobBatch, folder: Path, request: JobRequest, payloads: list[Payload]
    ) -> None:
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = AutoExecutor(
            folder,
            cluster="slurm",
            slurm_max_num_timeout=REQUEUES,
            slurm_python="exec " + shlex.quote(sys.executable),
        )
        executor.update_parameters(**request.sbatch(self.settings, batch.comment))
        slurm.calls["sbatch"] += 1
        try:
            with redirect_stderr(io.StringIO()):  # submitit prints the text of its error as well
                jobs = executor.submit_array(payloads)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise slurm.SlurmError(_sbatch_message(str(error))) from None
        for entry, job in zip(batch.jobs, jobs, strict=True):
            entry.id, entry.log = job.job_id, os.path.relpath(job.paths.stdout)

    def adopt(self, entry: Entry, folder: Path, payload: Payload, minutes: int) -> None:
        """Write the payload if the process that submitted the job was stopped before it did."""
        from submitit.core.utils import DelayedSubmission, JobPaths

        folder.mkdir(parents=True, exist_ok=True)
        paths = JobPaths(folder, entry.id)
        entry.log = os.path.relpath(paths.stdout)
        if not paths.submitted_pickle.exists():
            submission = DelayedSubmission(payload)
            submission.set_timeout(minutes, REQUEUES)
            submission.dump(paths.submitted_pickle)

    def outcome(self, entry: Entry) -> tuple[str, str] | None:
        return _outcome(entry)


class LocalBackend:
    """Jobs as processes of this machine; each job gets free GPUs of the machine."""

    name = "local"
    batch_limit = 1

    def __init__(self, settings: ExecutorSettings) -> None:
        self.gpus = visible_gpus()
        self.lent: dict[str, list[str]] = {}
        self.started: dict[str, Any] = {}

    def queue(self) -> dict[str, slurm.Queued]:
        from snakemake_executor_plugin_submitit.ledger import batches

        jobs = {}
        for batch in batches():
            for entry in batch.jobs:
                if batch.cluster == self.name and entry.id and self._runs(entry.id):
                    jobs[entry.id] = slurm.Queued(entry.id, "RUNNING", "", "", batch.comment)
        self.lent = {id: self.lent[id] if id in self.lent else _gpus_of(int(id)) for id in jobs}
        return jobs

    def _runs(self, id: str) -> bool:
        """Return True if a job runs."""
        job = self.started.get(id)  # a new process does not yet have a job's command line
        return not job.done() if job else _is_controller(int(id))

    def accounted(self, ids: Sequence[str]) -> dict[str, slurm.Accounted]:
        return {id: slurm.Accounted(("FAILED",), "", "") for id in ids}

    def submit(
        self, batch: JobBatch, folder: Path, request: JobRequest, payloads: list[Payload]
    ) -> None:
        from submitit import LocalExecutor

        executor = LocalExecutor(folder)
        gpus = self._free(request.gpus)
        executor.update_parameters(timeout_min=FOREVER_MINUTES, stderr_to_stdout=True)
        # update_parameters() accepts numbers only, but GPUs may have names
        executor.parameters.update(gpus_per_node=len(gpus), visible_gpus=gpus)
        (entry,), (payload,) = batch.jobs, payloads
        job = executor.submit(payload)
        entry.id, entry.log = job.job_id, os.path.relpath(job.paths.stdout)
        self.started[job.job_id], self.lent[job.job_id] = job, gpus

    def _free(self, count: int) -> list[str]:
        """Return free GPUs; raise NoFreeGpuError if too few are free at the moment."""
        if count > len(self.gpus):
            raise RequestError(
                f"resource 'gpu' is {count}, but this machine has {len(self.gpus)} GPUs; request "
                "fewer"
            )
        lent = {gpu for gpus in self.lent.values() for gpu in gpus}
        free = [gpu for gpu in self.gpus if gpu not in lent]
        if count > len(free):
            raise NoFreeGpuError
        return free[:count]

    def adopt(self, entry: Entry, folder: Path, payload: Payload, minutes: int) -> None:
        from submitit.core.utils import JobPaths

        entry.log = os.path.relpath(JobPaths(folder, entry.id).stdout)

    def outcome(self, entry: Entry) -> tuple[str, str] | None:
        return _outcome(entry)

    def cancel(self, ids: Sequence[str]) -> None:
        import psutil

        for id in filter(_is_controller, map(int, ids)):
            with suppress(psutil.Error):
                controller = psutil.Process(id)
                for process in controller.children() or [controller]:
                    process.send_signal(signal.SIGINT)

    def usage(self, ids: Sequence[str]) -> dict[str, JobUsage]:
        return {}


class DebugBackend:
    """Jobs that run in this process when they are submitted, with output on the terminal."""

    name = "debug"
    batch_limit = 1

    def __init__(self, settings: ExecutorSettings) -> None:
        self.outcomes: dict[str, tuple[str, str]] = {}
        self.counter: Counter[str] = Counter()

    def queue(self) -> dict[str, slurm.Queued]:
        return {}

    def accounted(self, ids: Sequence[str]) -> dict[str, slurm.Accounted]:
        return {id: slurm.Accounted(("FAILED",), "", "") for id in ids}

    def submit(
        self, batch: JobBatch, folder: Path, request: JobRequest, payloads: list[Payload]
    ) -> None:
        from submitit import DebugExecutor

        (entry,), (payload,) = batch.jobs, payloads
        job = DebugExecutor(folder).submit(payload)
        entry.id = job.job_id
        error = job.exception()
        self.outcomes[job.job_id] = ("error", str(error)) if error else ("success", "")

    def adopt(self, entry: Entry, folder: Path, payload: Payload, minutes: int) -> None:
        raise AssertionError("a job of the debug backend cannot outlive its process")

    def outcome(self, entry: Entry) -> tuple[str, str] | None:
        return self.outcomes.get(entry.id or "")

    def cancel(self, ids: Sequence[str]) -> None:
        pass

    def usage(self, ids: Sequence[str]) -> dict[str, JobUsage]:
        return {}


class NoFreeGpuError(Exception):
    """Too few GPUs of this machine are free; running jobs have the others."""


def choose(settings: ExecutorSettings) -> Backend:
    """Return the backend of the settings; raise RequestError if the machine has no Slurm."""
    missing = [command for command in SUBMITTING if shutil.which(command) is None]
    name = settings.cluster if settings.cluster != "auto" else ("local" if missing else "slurm")
    if name == "slurm" and missing:
        raise RequestError(
            f"--submitit-cluster is 'slurm', but this machine has no {' and no '.join(missing)}. "
            "Run on a login node of the cluster, or set it to 'local'."
        )
    if name == "slurm":
        return SlurmBackend(settings)
    return LocalBackend(settings) if name == "local" else DebugBackend(settings)


def visible_gpus() -> list[str]:
    """Return numbers or names of this machine's GPUs, restricted by CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return _names(visible)
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            timeout=30,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    count = sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
    return [str(number) for number in range(count)]


def _names(visible: str) -> list[str]:
    names = [word.strip() for word in visible.split(",")]
    return [name for name in names if name and not name.startswith("-")]


def _gpus_of(controller: int) -> list[str]:
    """Return the GPUs of a job's process."""
    import psutil

    try:
        return _names(psutil.Process(controller).environ().get("CUDA_VISIBLE_DEVICES", ""))
    except psutil.Error:
        return []


def _outcome(entry: Entry) -> tuple[str, str] | None:
    if not entry.log:
        return None
    return verdict.read_outcome(result_file(entry.log))


def result_file(log: str) -> Path:
    """Return the path of submitit's result file for the job with this log."""
    return Path(log.removesuffix("_log.out") + "_result.pkl")


def _is_controller(pid: int) -> bool:
    """Return True if a process is alive and was started by submitit's local executor."""
    import psutil

    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and "submitit.local._local" in process.cmdline()
    except psutil.Error:
        return False


def _sbatch_message(text: str) -> str:
    """Return sbatch's error lines from submitit's error message."""
    lines = [line.strip() for line in text.splitlines() if "sbatch: error:" in line]
    return "; ".join(line.split("sbatch: error: ")[-1] for line in lines) or " ".join(text.split())
