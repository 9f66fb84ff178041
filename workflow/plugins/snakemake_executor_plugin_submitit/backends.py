"""Where jobs run: on Slurm, as processes of this machine, or inside this process."""

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
from snakemake_executor_plugin_submitit.ledger import Entry, JobBatch
from snakemake_executor_plugin_submitit.payload import Payload
from snakemake_executor_plugin_submitit.request import JobRequest, RequestError
from snakemake_executor_plugin_submitit.settings import ExecutorSettings

FOREVER_MINUTES = 60 * 24 * 365
REQUEUES = 1_000_000
SUBMITTING = ("sbatch", "srun")
"""Commands that submitit needs: it refuses a machine without srun."""


class Backend(Protocol):
    """What the executor needs of a place where jobs run."""

    name: str
    batch_limit: int

    def queue(self) -> dict[str, slurm.Queued]:
        """Return the jobs that are there, by id; SlurmError where that cannot be told."""

    def accounted(self, ids: Sequence[str]) -> dict[str, slurm.Accounted]:
        """Return what is remembered of jobs that are not there any more."""

    def submit(
        self, batch: JobBatch, folder: Path, request: JobRequest, payloads: list[Payload]
    ) -> None:
        """Submit a batch, and set each entry's id and log. SlurmError with Slurm's words."""

    def adopt(self, entry: Entry, folder: Path, payload: Payload, minutes: int) -> None:
        """Complete the submission of a job whose id has been found in the queue."""

    def outcome(self, entry: Entry) -> tuple[str, str] | None:
        """Return what a job has left: ("success" or "error", text)."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs."""


class SlurmBackend:
    """submitit's Slurm executor to submit and requeue; the queue itself says how jobs fare."""

    name = "slurm"

    def __init__(self, settings: ExecutorSettings) -> None:
        self.settings, self.batch_limit = settings, settings.array_size

    queue = staticmethod(slurm.queue)
    accounted = staticmethod(slurm.accounted)
    cancel = staticmethod(slurm.cancel)

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
            with redirect_stderr(io.StringIO()):  # submitit prints what its error says anyway
                jobs = executor.submit_array(payloads)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise slurm.SlurmError(_sbatch_words(str(error))) from None
        for entry, job in zip(batch.jobs, jobs, strict=True):
            entry.id, entry.log = job.job_id, os.path.relpath(job.paths.stdout)

    def adopt(self, entry: Entry, folder: Path, payload: Payload, minutes: int) -> None:
        """Write what the job waits for, if whoever submitted it was stopped before it could."""
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
    """submitit's local executor: one process a job, GPUs handed out from those of this machine."""

    name = "local"
    batch_limit = 1

    def __init__(self, settings: ExecutorSettings) -> None:
        self.gpus = visible_gpus()
        self.lent: dict[str, list[str]] = {}
        self.started: dict[str, Any] = {}

    def queue(self) -> dict[str, slurm.Queued]:
        from snakemake_executor_plugin_submitit.ledger import batches

        found = {}
        for batch in batches():
            for entry in batch.jobs:
                if batch.cluster == self.name and entry.id and self._runs(entry.id):
                    found[entry.id] = slurm.Queued(entry.id, "RUNNING", "", "", batch.comment)
        self.lent = {id: self.lent[id] if id in self.lent else _gpus_of(int(id)) for id in found}
        return found

    def _runs(self, id: str) -> bool:
        """Return whether a job is there; one just started does not look like a job yet."""
        job = self.started.get(id)
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
        # set past submitit's check, which knows numbers only; GPUs may have names
        executor.parameters.update(gpus_per_node=len(gpus), visible_gpus=gpus)
        (entry,), (payload,) = batch.jobs, payloads
        job = executor.submit(payload)
        entry.id, entry.log = job.job_id, os.path.relpath(job.paths.stdout)
        self.started[job.job_id], self.lent[job.job_id] = job, gpus

    def _free(self, wanted: int) -> list[str]:
        if wanted > len(self.gpus):
            raise RequestError(f"asks for {wanted} GPUs; this machine has {len(self.gpus)}")
        lent = {gpu for gpus in self.lent.values() for gpu in gpus}
        free = [gpu for gpu in self.gpus if gpu not in lent]
        if wanted > len(free):
            raise NoFreeGpuError
        return free[:wanted]

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


class DebugBackend:
    """Runs each job in this process when it is submitted, with its output on the terminal."""

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
        raise AssertionError("a job of this process cannot outlive it")

    def outcome(self, entry: Entry) -> tuple[str, str] | None:
        return self.outcomes.get(entry.id or "")

    def cancel(self, ids: Sequence[str]) -> None:
        pass


class NoFreeGpuError(Exception):
    """All GPUs of this machine are lent to jobs that have not ended yet."""


def choose(settings: ExecutorSettings) -> Backend:
    """Return the backend that is asked for, or the one that is there; RequestError if it is not."""
    missing = [command for command in SUBMITTING if shutil.which(command) is None]
    name = settings.cluster if settings.cluster != "auto" else ("local" if missing else "slurm")
    if name == "slurm" and missing:
        raise RequestError(
            f"--submitit-cluster is 'slurm', and there is no {' and no '.join(missing)} on this "
            "machine; run on a login node of the cluster, or use 'local'"
        )
    if name == "slurm":
        return SlurmBackend(settings)
    return LocalBackend(settings) if name == "local" else DebugBackend(settings)


def visible_gpus() -> list[str]:
    """Return the numbers or names of this machine's GPUs that CUDA_VISIBLE_DEVICES allows."""
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
    """Return the GPUs that a job's process was given."""
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
    """Return where submitit writes the result of the job with this log."""
    return Path(log.removesuffix("_log.out") + "_result.pkl")


def _is_controller(pid: int) -> bool:
    """Return whether a process is one that submitit's local executor started, and alive."""
    import psutil

    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and "submitit.local._local" in process.cmdline()
    except psutil.Error:
        return False


def _sbatch_words(text: str) -> str:
    """Return sbatch's own complaint out of submitit's error."""
    said = [line.strip() for line in text.splitlines() if "sbatch: error:" in line]
    return "; ".join(line.split("sbatch: error: ")[-1] for line in said) or " ".join(text.split())
