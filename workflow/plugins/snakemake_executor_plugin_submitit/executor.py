"""The executor: a list of tasks, and one look at the queue for all of them now and then."""

import asyncio
import shlex
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.utils import format_cli_arg

from snakemake_executor_plugin_submitit import ledger, slurm, verdict
from snakemake_executor_plugin_submitit.interrupt import shall_cancel
from snakemake_executor_plugin_submitit.request import RequestError, request_of, shell_quoted
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.submission import Submitter
from snakemake_executor_plugin_submitit.task import Task, entry_of

SHOWN_LINES = 20
"""Lines of a failed job's log that are shown."""


class Executor(RemoteExecutor):
    """Submits Snakemake jobs through submitit; the wait thread does all of it, step by step."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self.settings: ExecutorSettings = workflow.executor_settings
        self.tasks: list[Task] = []
        self.mutex = threading.Lock()  # held while the queue is changed; guards ``closing``
        self.closing = False
        self.poll_seconds = float(self.settings.poll_seconds)
        self.awake, self.looked_at = False, -float("inf")
        self.silent_since: float | None = None
        self.started = time.monotonic()
        try:
            self.submitter = Submitter(self.settings, logger)
        except RequestError as error:
            raise WorkflowError(str(error)) from None
        if slurm.leave_allocation():
            logger.warning("Running inside a Slurm job: its SLURM_* variables are not passed on.")
        super().__init__(workflow, logger)

    def run_job(self, job: JobExecutorInterface) -> None:
        """Take a job over; the next look at the queue adopts or submits it."""
        info = SubmittedJobInfo(job)
        try:
            request = request_of(job, self.settings)
            command = shell_quoted(self.format_job_exec(job))
            task = Task(info, request, command, entry_of(job, request.mem_mb))
        except Exception as error:  # one that escaped would cancel all jobs
            told = error if isinstance(error, RequestError) else repr(error)
            self.report_job_error(info, msg=f"{job.name}: {told} ")
            return
        with self.mutex:
            self.tasks.append(task)
        self.report_job_submission(info, register_job=False)
        self.awake = True

    def get_job_args(self, job: JobExecutorInterface, **kwargs: Any) -> str:
        """Return the in-job command's arguments: the job's own cores, and no file of this process.

        The base class makes jobs wait for a folder that is removed when this process ends.
        """
        arguments = RealExecutor.get_job_args(self, job, cores=max(1, job.threads), **kwargs)
        files = [str(path) for path in job.get_wait_for_files()]
        if len(files) <= SHOWN_LINES:
            return f"{arguments} {format_cli_arg('--wait-for-files', files)}"
        listing = ledger.ROOT / f"{ledger.sha1(map(str, job.output))}.inputs"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("\n".join(files), encoding="utf-8")
        return f"{arguments} {format_cli_arg('--wait-for-files-file', str(listing.resolve()))}"

    def get_python_executable(self) -> str:
        return shlex.quote(super().get_python_executable())

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Adopt, submit and judge; nothing that goes wrong here may end the workflow."""
        changed = False
        if active_jobs:
            self.awake, self.looked_at = False, time.monotonic()
            try:
                changed = await asyncio.to_thread(self._look)
            except slurm.SlurmError as error:
                self._tell_silence(error)
                changed = self._finish_succeeded()
            except Exception as error:
                self.logger.warning(f"Looking at the queue failed ({error!r}); trying again.")
        self._set_pace(changed)
        with self.mutex:
            unfinished = {id(task.info) for task in self.tasks}
        for info in active_jobs:
            if id(info) in unfinished:
                yield info

    def _look(self) -> bool:
        """Ask for the queue once, and act on it; return whether a job has changed."""
        queue = self.submitter.backend.queue()
        if self.silent_since is not None:
            self.logger.info("Slurm answers again.")
            self.silent_since = None
        with self.mutex:
            if self.closing:
                return False
            fresh = [task for task in self.tasks if task.entry.id is None]
            failed = self.submitter.place(fresh, queue)
            for task in fresh:
                if task.entry.id:
                    self._register(task)
            placed = [task for task in self.tasks if task.entry.id and task not in fresh]
        for task, text in failed.items():
            self._fail(task, verdict.JobVerdict(verdict.FAILURE, verdict.REJECTED, text))
        changes = [
            self._judge(task, queue, memory) for task, memory in self._remembered(placed, queue)
        ]
        return any(changes) or bool(fresh)

    def _register(self, task: Task) -> None:
        task.info.external_jobid = task.entry.id
        try:
            task.info.job.register(external_jobid=task.entry.id)
        except OSError as error:
            self.logger.warning(f"{task.name}: no marker of an unfinished job: {error}")

    def _remembered(
        self, tasks: list[Task], queue: dict[str, slurm.Queued]
    ) -> list[tuple[Task, slurm.Accounted | None]]:
        """Return tasks with what accounting says, asked in one call for those that have ended."""
        ids = [str(task.entry.id) for task in tasks]
        unsettled = [
            id
            for task, id in zip(tasks, ids, strict=True)
            if not (id in queue and queue[id].live) and not self._succeeded(task)
        ]
        memory = self.submitter.backend.accounted(unsettled) if unsettled else {}
        return [(task, memory.get(id)) for task, id in zip(tasks, ids, strict=True)]

    def _succeeded(self, task: Task) -> bool:
        outcome = self.submitter.backend.outcome(task.entry)
        return outcome is not None and outcome[0] == "success"

    def _judge(
        self, task: Task, queue: dict[str, slurm.Queued], memory: slurm.Accounted | None
    ) -> bool:
        """Act on what has become of a task; return whether it has ended."""
        queued = queue.get(str(task.entry.id))
        outcome = self.submitter.backend.outcome(task.entry)
        found = verdict.judge(task.entry, outcome, queued, memory)
        if found.state == verdict.ACTIVE:
            task.doubt_since = None
            self._tell_reason(task, queued)
            return False
        if found.state == verdict.DOUBT and task.doubted_for() < self.settings.doubt_seconds:
            return False
        if found.state == verdict.SUCCESS:
            self._finish(task)
        elif not self._again(task, found):
            self._fail(task, found)
        return True

    def _finish(self, task: Task) -> None:
        self._note(self.submitter.clear, task)
        self._drop(task)
        self.report_job_success(task.info)

    def _finish_succeeded(self) -> bool:
        """Finish jobs that have left a result, which counts without Slurm; return whether any."""
        with self.mutex:
            succeeded = [task for task in self.tasks if task.entry.id and self._succeeded(task)]
        for task in succeeded:
            self._finish(task)
        return bool(succeeded)

    def _again(self, task: Task, found: verdict.JobVerdict) -> bool:
        """Let a job be submitted again where more memory or another node may help."""
        entry, told = task.entry, f"job {task.entry.id} ({task.name}): {found.text}"
        if found.cause == verdict.MEMORY and entry.attempt <= self.settings.oom_retries:
            task.request = task.request.with_memory(2 * task.request.mem_mb)
            entry.attempt, entry.mem_mb = entry.attempt + 1, task.request.mem_mb
            self.logger.warning(f"{told}; submitting it again with {entry.mem_mb} MB.")
        elif found.cause in verdict.LOST and entry.restarts < self.settings.restarts:
            entry.restarts += 1
            self.logger.warning(f"{told}; submitting it again, to go on where it was.")
        else:
            return False
        self._note(self.submitter.release, task)
        task.doubt_since = None
        return True

    def _fail(self, task: Task, found: verdict.JobVerdict) -> None:
        entry = task.entry
        self._note(self.submitter.conclude, task, found)
        self._drop(task)
        log = next(
            (path for path in [*entry.logs, entry.log] if path and Path(path).exists()), None
        )
        job = f"job {entry.id}" if entry.id else "not submitted"
        where = f"; log: {log}" if log else ""
        message = f"{job} ({task.name}): {found.cause}: {found.text}{where}\n"
        if found.text.startswith(found.cause):
            message = f"{job} ({task.name}): {found.text}{where}\n"
        lines = verdict.tail_of(log, SHOWN_LINES)
        message += "".join(f"    {line}\n" for line in lines)
        self.report_job_error(task.info, msg=message, aux_logs=[entry.log] if entry.log else [])

    def _note(self, change: Callable[..., None], *arguments: Any) -> None:
        """Change the ledger; where it cannot be written, the workflow goes on without."""
        try:
            change(*arguments)
        except OSError as error:
            self.logger.warning(f"{ledger.ROOT}: {error}")

    def _drop(self, task: Task) -> None:
        with self.mutex:
            self.tasks.remove(task)

    def _tell_reason(self, task: Task, queued: slurm.Queued | None) -> None:
        if queued is None or queued.state != "PENDING":
            task.pending_since = None
        elif task.reason_to_tell(queued.reason):
            self.logger.warning(f"job {queued.id} ({task.name}) is pending: {queued.reason}")

    def _tell_silence(self, error: slurm.SlurmError) -> None:
        if self.silent_since is None:
            self.silent_since = time.monotonic()
            self.logger.warning(f"Slurm does not answer ({error}); jobs are left as they are.")

    def _set_pace(self, changed: bool) -> None:
        """Look often while jobs change, and ever more seldom while none does."""
        least, most = self.settings.poll_seconds, self.settings.poll_max_seconds
        slower = max(least, min(most, 1.5 * self.poll_seconds))
        self.poll_seconds = float(least if changed else slower)

    async def sleep(self) -> None:
        """Sleep until the next look; a new job or the end of the workflow cuts it short."""
        since = time.monotonic()
        while self.wait and time.monotonic() - since < self.poll_seconds:
            if self.awake and time.monotonic() - self.looked_at > self.settings.poll_seconds:
                break
            await asyncio.sleep(0.1)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Leave or cancel the jobs in the queue, as the settings or the user say."""
        with self.mutex:
            self.closing = True
            tasks = [task for task in self.tasks if task.entry.id]
        ids = [str(task.entry.id) for task in tasks]
        if not ids:
            return
        if not shall_cancel(self.settings.on_interrupt, self.submitter.backend.name, ids):
            self.logger.info(
                f"{len(ids)} jobs stay in the queue; the next snakemake takes them over. "
                f"To cancel them: scancel {' '.join(ids)}"
            )
            return
        try:
            self.submitter.cancel(tasks)
            self.logger.info(f"Cancelled {len(ids)} jobs: {' '.join(ids)}")
        except slurm.SlurmError as error:
            self.logger.error(f"Jobs {' '.join(ids)} could not be cancelled: {error}")

    def shutdown(self) -> None:
        super().shutdown()
        self.submitter.report(time.monotonic() - self.started)
