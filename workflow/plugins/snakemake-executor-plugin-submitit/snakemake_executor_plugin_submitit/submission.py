"""Placement of tasks: adopt those in the queue, and submit equal requests as job arrays."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from snakemake_executor_plugin_submitit import backends, efficiency, ledger, slurm, verdict
from snakemake_executor_plugin_submitit.request import JobRequest, RequestError
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.task import Task

TRANSIENT = (
    "unable to contact slurm controller",
    "socket timed out",
    "connection refused",
    "connection timed out",
    "connection reset",
    "resource temporarily unavailable",
    "temporarily unable to accept job",
    "zero bytes were transmitted",
    "slurm backup controller in standby mode",
    "unexpected message received",
    "transport endpoint",
)
NO_ROOM = ("no space left on device", "disk quota exceeded", "stale file handle")
"""Errors of a file system that a user may fix while jobs wait."""

LIMITS = ("maxsubmit", "invalid job array specification")
"""Errors of sbatch if a submission has more jobs than the site allows at once."""

LONGEST_WAIT = 60


class Submitter:
    """Submitter of tasks, which adopts tasks that are already queued and maintains the ledger."""

    def __init__(self, settings: ExecutorSettings, logger: Any) -> None:
        self.settings, self.logger = settings, logger
        if settings.array_size < 1 or settings.poll_seconds < 1:
            raise RequestError(
                "--submitit-array-size and --submitit-poll-seconds must be at least 1"
            )
        self.backend = backends.choose(settings)
        self.array_size = self.backend.batch_limit
        self.batches = {batch.name: batch for batch in ledger.batches()}
        self.inherited = set(self.batches)
        self.adopted: set[str] = set()
        self.wait, self.not_before = 0.0, 0.0
        self.refused_since: float | None = None
        self.jobs = 0
        self.ended: list[tuple[str, str]] = []
        self.process_started = psutil.Process().create_time()

    def place(self, tasks: list[Task], queue: dict[str, slurm.Queued]) -> dict[Task, str]:
        """Adopt or submit tasks; return tasks that can never run with the reason."""
        self._adopt(tasks, queue)
        refused: dict[Task, str] = {}
        if time.monotonic() < self.not_before:
            return refused
        dying = self._dying(queue)
        absent = [task for task in tasks if not (task.entry.id or task.entry.key in dying)]
        for group in _groups(absent, self.array_size):
            try:
                self._submit(group)
                self.wait, self.refused_since = 0.0, None
            except RequestError as error:
                refused |= dict.fromkeys(group, str(error))
            except backends.NoFreeGpuError:
                continue
            except (slurm.SlurmError, OSError) as error:
                if self._shall_wait(str(error), group):
                    break
                if self._readmit_nodes(group, error):
                    continue
                refused |= dict.fromkeys(group, f"the cluster refused the job: {error}")
        return refused

    def _adopt(self, tasks: list[Task], queue: dict[str, slurm.Queued]) -> None:
        """Assign tasks the queued jobs that create their output files."""
        adoptable = self._adoptable(queue)
        for task in tasks:
            if task.entry.key not in adoptable:
                continue
            batch, entry = adoptable[task.entry.key]
            adopted = f"Adopted job {entry.id} ({entry.name}), which is already in the queue"
            if entry.digest != task.entry.digest:
                self.logger.warning(
                    f"{adopted}, although its command has changed. To run the new command, "
                    f"cancel it with scancel {entry.id} and start snakemake again."
                )
            else:
                self.logger.info(f"{adopted}.")
            task.batch, task.entry = batch, entry
            self.adopted.add(entry.key)
            task.request = task.request.with_memory(entry.mem_mb or task.request.mem_mb)
            task.request = task.request.without_nodes(entry.failed_nodes)
            folder = self._folder(batch)
            payload = task.payload(folder, self.settings)
            self.backend.adopt(entry, folder, payload, task.request.minutes)
            batch.write()

    def _adoptable(
        self, queue: dict[str, slurm.Queued]
    ) -> dict[str, tuple[ledger.JobBatch, ledger.Entry]]:
        """Return the jobs to adopt by key; drop inherited jobs that ended without this process."""
        commented = {job.comment: job.id for job in queue.values()}
        jobs = {}
        for batch in list(self.batches.values()):
            if batch.cluster != self.backend.name:
                continue
            _confirm(batch, commented.get(batch.comment))
            for entry in batch.jobs:
                if entry.verdict is None and self._current(entry, queue):
                    jobs[entry.key] = (batch, entry)
            if batch.name in self.inherited:
                keys = {*jobs, *self.adopted}
                self._keep(batch, [job for job in batch.jobs if job.verdict or job.key in keys])
        return jobs

    def _dying(self, queue: dict[str, slurm.Queued]) -> set[str]:
        """Return the keys of cancelled and failed jobs that are still in the queue."""
        ended = [job for batch in self.batches.values() for job in batch.jobs if job.verdict]
        return {job.key for job in ended if job.id in queue and queue[job.id].live}

    def _current(self, entry: ledger.Entry, queue: dict[str, slurm.Queued]) -> bool:
        """Return True if a job is live, or has succeeded since this process planned its jobs."""
        job = queue.get(str(entry.id))
        if job and job.live:
            return True
        if entry.id is None or entry.batch in self.inherited:
            return self._succeeded_since(entry)
        return True

    def _succeeded_since(self, entry: ledger.Entry) -> bool:
        if entry.log is None or self.backend.outcome(entry) != ("success", ""):
            return False
        return backends.result_file(entry.log).stat().st_mtime > self.process_started

    def _submit(self, tasks: list[Task]) -> None:
        """Submit tasks with equal requests, several tasks as one job array."""
        self._forget({task.entry.key for task in tasks})
        batch = ledger.new_batch(self.backend.name, [task.entry for task in tasks])
        folder = self._folder(batch)
        folder.mkdir(parents=True, exist_ok=True)
        batch.write()
        self.batches[batch.name] = batch
        payloads = [task.payload(folder, self.settings) for task in tasks]
        self.backend.submit(batch, folder, tasks[0].request, payloads)
        for task in tasks:
            task.batch = batch
        batch.write()
        self.jobs += len(tasks)
        first, last = batch.jobs[0].id, batch.jobs[-1].id
        which = f"job {first}" if first == last else f"jobs {first} to {last}"
        self.logger.info(
            f"Submitted {tasks[0].name if first == last else batch.jobs[0].rule}: "
            f"{which}; log in {os.path.relpath(folder)}"
        )

    def _shall_wait(self, refusal: str, tasks: list[Task]) -> bool:
        """Return True and delay the next attempt if a refusal may be temporary."""
        words, now = refusal.lower(), time.monotonic()
        full = any(limit in words for limit in LIMITS)
        if not full and not any(word in words for word in (*TRANSIENT, *NO_ROOM)):
            return False
        if full:
            self.array_size = max(1, self.array_size // 2)
        self.refused_since = self.refused_since or now
        if now - self.refused_since > 60 * self.settings.controller_minutes:
            return full and self.jobs > 0
        self.wait = min(LONGEST_WAIT, max(2.0, 2 * self.wait))
        self.not_before = now + self.wait
        self.logger.warning(
            f"Cannot submit: {refusal}. Retrying {len(tasks)} jobs in {self.wait:.0f} s."
        )
        return True

    def _readmit_nodes(self, tasks: list[Task], error: Exception) -> bool:
        """Allow all nodes again if a refused submission excluded some; return True then."""
        excluded = tasks[0].request.excluded_nodes
        for task in tasks:
            task.request = task.request.without_nodes([])
        if excluded:
            self.logger.warning(
                f"Cannot submit without the nodes {', '.join(excluded)}, where jobs failed: "
                f"{error}. Submitting to all nodes."
            )
        return bool(excluded)

    def failed_nodes(self, key: str) -> list[str]:
        """Return the nodes on which the job with these outputs has failed."""
        jobs = [job for batch in self.batches.values() for job in batch.jobs if job.key == key]
        return sorted({node for job in jobs for node in job.failed_nodes})

    def release(self, task: Task) -> None:
        """Remove a task from its submission, so that it is submitted again."""
        task.entry.id, task.batch = None, None
        self._forget({task.entry.key})

    def clear(self, task: Task) -> None:
        """Remove a successful job from the ledger, and submitit's files except the log."""
        self.ended.append((task.entry.rule, str(task.entry.id)))
        self._forget({task.entry.key})
        if task.entry.log:
            result = backends.result_file(task.entry.log)
            submitted = result.name.replace("_0_result", "_submitted")
            for path in (result, result.with_name(submitted)):
                path.unlink(missing_ok=True)

    def cancel(self, tasks: list[Task]) -> None:
        """Cancel queued tasks; raise SlurmError if that fails."""
        self.backend.cancel([str(task.entry.id) for task in tasks])
        for task in tasks:
            task.entry.verdict = {"cause": verdict.CANCELLED, "text": "cancelled with its workflow"}
        for batch in {id(task.batch): task.batch for task in tasks if task.batch}.values():
            batch.write()

    def conclude(self, task: Task, judgment: verdict.JobVerdict) -> None:
        """Write a failure to the ledger, where it stays until the job is submitted again."""
        id, log = task.entry.id, task.entry.log
        self._forget({task.entry.key})
        batch = ledger.new_batch(self.backend.name, [task.entry])
        task.entry.id, task.entry.log = id, log
        task.entry.verdict = {"cause": judgment.cause, "text": judgment.text}
        self.batches[batch.name] = batch
        batch.write()

    def _forget(self, keys: set[str]) -> None:
        for batch in list(self.batches.values()):
            remaining = [job for job in batch.jobs if job.key not in keys]
            if len(remaining) < len(batch.jobs):
                self._keep(batch, remaining)

    def _keep(self, batch: ledger.JobBatch, jobs: list[ledger.Entry]) -> None:
        if len(jobs) == len(batch.jobs):
            return
        if not any(job.id for job in batch.jobs):
            _remove_unused(self._folder(batch))
        batch.jobs = jobs
        batch.write()
        if not jobs:
            del self.batches[batch.name]

    def _folder(self, batch: ledger.JobBatch) -> Path:
        if not batch.folder:
            batch.folder = os.path.join(self.settings.log_folder, batch.jobs[0].rule, batch.name)
        return Path(batch.folder).absolute()

    def report(self, seconds: float) -> None:
        """Log the number of submitted jobs and of calls of Slurm's commands."""
        if slurm.calls:
            hours = seconds / 3600
            calls = ", ".join(f"{name} {n}" for name, n in sorted(slurm.calls.items()))
            self.logger.info(
                f"Submitted {self.jobs} jobs in total. Slurm calls in {hours:.2f} h: {calls} "
                f"({sum(slurm.calls.values()) / hours:.0f} per hour)."
            )
        if self.settings.efficiency_report and self.ended:
            self._report_efficiency(Path(self.settings.efficiency_report))

    def _report_efficiency(self, path: Path) -> None:
        """Write the usage of the rules whose jobs have succeeded, and log what to change."""
        try:
            usages = self.backend.usage([id for _, id in self.ended])
            rules = efficiency.usage_of_rules(
                (rule, usages[id]) for rule, id in self.ended if id in usages
            )
            if rules:
                efficiency.write_report(path, rules)
                advice = [f"\n  {line}" for rule in rules for line in rule.advice()]
                self.logger.info(f"Used and requested resources: {path}{''.join(advice)}")
        except (slurm.SlurmError, OSError) as error:
            self.logger.info(f"No efficiency report: {error}")


def _remove_unused(folder: Path) -> None:
    """Remove the folder of a refused submission, unless a job has written there."""
    if not any(folder.glob("*_log.out")):
        shutil.rmtree(folder, ignore_errors=True)


def _groups(tasks: Iterable[Task], size: int) -> Iterator[list[Task]]:
    """Yield groups of at most ``size`` tasks with equal requests."""
    groups: dict[JobRequest, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.request, []).append(task)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _confirm(batch: ledger.JobBatch, id: str | None) -> None:
    """Set the ids of an unconfirmed submission, whose job was found by its comment."""
    if id is None or any(entry.id for entry in batch.jobs):
        return
    for index, entry in enumerate(batch.jobs):
        entry.id = id if len(batch.jobs) == 1 else f"{id.split('_')[0]}_{index}"
