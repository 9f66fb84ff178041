"""Executor: a list of tasks, and regular queries of the queue for all of them at once."""

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
"""Number of lines of a failed job's log in its error message."""


class Executor(RemoteExecutor):
    """Snakemake executor that submits jobs through submitit, all in Snakemake's wait thread."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self.settings: ExecutorSettings = workflow.executor_settings
        self.tasks: list[Task] = []
        # Held while jobs are submitted or cancelled; guards ``closing``.
        self.mutex = threading.Lock()
        self.closing = False
        self.poll_seconds = float(self.settings.poll_seconds)
        self.awake, self.queried_at = False, -float("inf")
        self.silent_since: float | None = None
        self.started = time.monotonic()
        try:
            self.submitter = Submitter(self.settings, logger)
        except RequestError as error:
            raise WorkflowError(str(error)) from None
        if slurm.leave_allocation():
            logger.warning(
                "Running inside a Slurm job; submitted jobs do not inherit its SLURM_* variables."
            )
        super().__init__(workflow, logger)

    def run_job(self, job: JobExecutorInterface) -> None:
        """Add a job to the tasks; the next query of the queue adopts or submits it."""
        info = SubmittedJobInfo(job)
        try:
            request = request_of(job, self.settings)
            command = shell_quoted(self.format_job_exec(job))
            task = Task(info, request, command, entry_of(job, request.mem_mb))
            if job.attempt > 1:  # a retry of Snakemake
                self._exclude_nodes(task, self.submitter.failed_nodes(task.entry.key))
        except Exception as error:  # Snakemake would cancel all jobs
            reason = error if isinstance(error, RequestError) else repr(error)
            self.report_job_error(info, msg=f"{job.name}: {reason} ")
            return
        with self.mutex:
            self.tasks.append(task)
        self.report_job_submission(info, register_job=False)
        self.awake = True

    def get_job_args(self, job: JobExecutorInterface, **kwargs: Any) -> str:
        """Return the arguments of the command in the job: its cores, and the files to wait for.

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
        """Adopt and submit jobs and check their states; no error here may end the workflow."""
        changed = False
        if active_jobs:
            self.awake, self.queried_at = False, time.monotonic()
            try:
                changed = await asyncio.to_thread(self._process_queue)
            except slurm.SlurmError as error:
                self._warn_of_silence(error)
                changed = self._finish_succeeded()
            except Exception as error:
                self.logger.warning(f"Cannot check the queue ({error!r}); trying again.")
        self._set_pace(changed)
        with self.mutex:
            unfinished = {id(task.info) for task in self.tasks}
        for info in active_jobs:
            if id(info) in unfinished:
                yield info

    def _process_queue(self) -> bool:
        """Query the queue once and process its jobs; return True if a job has changed."""
        queue = self.submitter.backend.queue()
        if self.silent_since is not None:
            self.logger.info("Slurm answers again.")
            self.silent_since = None
        with self.mutex:
            if self.closing:
                return False
            new_tasks = [task for task in self.tasks if task.entry.id is None]
            failed = self.submitter.place(new_tasks, queue)
            for task in new_tasks:
                if task.entry.id:
                    self._register(task)
            placed = [task for task in self.tasks if task.entry.id and task not in new_tasks]
        for task, text in failed.items():
            self._fail(task, verdict.JobVerdict(verdict.FAILURE, verdict.REJECTED, text))
        changes = [
            self._process(task, queue, record) for task, record in self._with_records(placed, queue)
        ]
        return any(changes) or bool(new_tasks)

    def _register(self, task: Task) -> None:
        task.info.external_jobid = task.entry.id
        try:
            task.info.job.register(external_jobid=task.entry.id)
        except OSError as error:
            self.logger.warning(f"{task.name}: cannot mark the outputs as incomplete: {error}")

    def _with_records(
        self, tasks: list[Task], queue: dict[str, slurm.Queued]
    ) -> list[tuple[Task, slurm.Accounted | None]]:
        """Return tasks with their accounting records, read in one call for all ended jobs."""
        ids = [str(task.entry.id) for task in tasks]
        ended = [
            id
            for task, id in zip(tasks, ids, strict=True)
            if not (id in queue and queue[id].live) and not self._succeeded(task)
        ]
        records = self.submitter.backend.accounted(ended) if ended else {}
        return [(task, records.get(id)) for task, id in zip(tasks, ids, strict=True)]

    def _succeeded(self, task: Task) -> bool:
        outcome = self.submitter.backend.outcome(task.entry)
        return outcome is not None and outcome[0] == "success"

    def _process(
        self, task: Task, queue: dict[str, slurm.Queued], record: slurm.Accounted | None
    ) -> bool:
        """Judge a task, and finish, resubmit or fail it if it has ended; return True then."""
        queued = queue.get(str(task.entry.id))
        outcome = self.submitter.backend.outcome(task.entry)
        judgment = verdict.judge(task.entry, outcome, queued, record)
        if judgment.state == verdict.ACTIVE:
            task.doubt_since = None
            self._warn_of_reason(task, queued)
            return False
        if judgment.state == verdict.DOUBT and task.doubted_for() < self.settings.doubt_seconds:
            return False
        if judgment.state == verdict.SUCCESS:
            self._finish(task)
        elif not self._resubmit(task, judgment):
            self._fail(task, judgment)
        return True

    def _finish(self, task: Task) -> None:
        self._change_ledger(self.submitter.clear, task)
        self._drop(task)
        self.report_job_success(task.info)

    def _finish_succeeded(self) -> bool:
        """Finish jobs with a successful result file, even if Slurm is away; return True if any."""
        with self.mutex:
            succeeded = [task for task in self.tasks if task.entry.id and self._succeeded(task)]
        for task in succeeded:
            self._finish(task)
        return bool(succeeded)

    def _resubmit(self, task: Task, judgment: verdict.JobVerdict) -> bool:
        """Release a job for resubmission if more memory or another node may help."""
        entry, problem = task.entry, f"job {task.entry.id} ({task.name}): {judgment.text}"
        if judgment.cause == verdict.MEMORY and entry.attempt <= self.settings.oom_retries:
            task.request = task.request.with_memory(2 * task.request.mem_mb)
            entry.attempt, entry.mem_mb = entry.attempt + 1, task.request.mem_mb
            self.logger.warning(f"{problem}; submitting it again with {entry.mem_mb} MB.")
        elif judgment.cause in verdict.LOST and entry.restarts < self.settings.restarts:
            entry.restarts += judgment.cause != verdict.SAVED
            self._exclude_nodes(task, [judgment.node] if judgment.node else [])
            self.logger.warning(f"{problem}; submitting it again to resume.")
        else:
            return False
        self._change_ledger(self.submitter.release, task)
        task.doubt_since = None
        return True

    def _exclude_nodes(self, task: Task, nodes: list[str]) -> None:
        """Exclude nodes on which a job has failed, unless the settings allow them."""
        if self.settings.exclude_failed_nodes == "yes":
            task.entry.failed_nodes = sorted({*task.entry.failed_nodes, *nodes})
            task.request = task.request.without_nodes(task.entry.failed_nodes)

    def _fail(self, task: Task, judgment: verdict.JobVerdict) -> None:
        entry = task.entry
        if judgment.node:
            entry.failed_nodes = sorted({*entry.failed_nodes, judgment.node})
        self._change_ledger(self.submitter.conclude, task, judgment)
        self._drop(task)
        log = next(
            (path for path in [*entry.logs, entry.log] if path and Path(path).exists()), None
        )
        job = f"job {entry.id}" if entry.id else "not submitted"
        where = f"; log: {log}" if log else ""
        cause = "" if judgment.text.startswith(judgment.cause) else f"{judgment.cause}: "
        message = f"{job} ({task.name}): {cause}{judgment.text}{where}\n"
        lines = verdict.tail_of(log, SHOWN_LINES)
        message += "".join(f"    {line}\n" for line in lines)
        self.report_job_error(task.info, msg=message, aux_logs=[entry.log] if entry.log else [])

    def _change_ledger(self, change: Callable[..., None], *arguments: Any) -> None:
        """Change the ledger; warn and continue if it cannot be written."""
        try:
            change(*arguments)
        except OSError as error:
            self.logger.warning(f"Cannot write the ledger {ledger.ROOT}: {error}")

    def _drop(self, task: Task) -> None:
        with self.mutex:
            self.tasks.remove(task)

    def _warn_of_reason(self, task: Task, queued: slurm.Queued | None) -> None:
        if queued is None or queued.state != "PENDING":
            task.pending_since = None
        elif task.is_new_reason(queued.reason):
            self.logger.warning(f"job {queued.id} ({task.name}) is pending: {queued.reason}")

    def _warn_of_silence(self, error: slurm.SlurmError) -> None:
        if self.silent_since is None:
            self.silent_since = time.monotonic()
            self.logger.warning(
                f"Slurm does not answer ({error}). Jobs are unchanged; trying again."
            )

    def _set_pace(self, changed: bool) -> None:
        """Query often while jobs change, and less and less often while none does."""
        least, most = self.settings.poll_seconds, self.settings.poll_max_seconds
        slower = max(least, min(most, 1.5 * self.poll_seconds))
        self.poll_seconds = float(least if changed else slower)

    async def sleep(self) -> None:
        """Sleep until the next query, a new job or the end of the workflow."""
        since = time.monotonic()
        while self.wait and time.monotonic() - since < self.poll_seconds:
            if self.awake and time.monotonic() - self.queried_at > self.settings.poll_seconds:
                break
            await asyncio.sleep(0.1)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Leave or cancel the queued jobs, as the settings or the user decide."""
        with self.mutex:
            self.closing = True
            tasks = [task for task in self.tasks if task.entry.id]
        ids = [str(task.entry.id) for task in tasks]
        if not ids:
            return
        if not shall_cancel(self.settings.on_interrupt, self.submitter.backend.name, ids):
            self.logger.info(
                f"{len(ids)} jobs stay in the queue. Run snakemake again to adopt them, or cancel "
                f"them: scancel {' '.join(ids)}"
            )
            return
        try:
            self.submitter.cancel(tasks)
            self.logger.info(f"Cancelled {len(ids)} jobs: {' '.join(ids)}")
        except slurm.SlurmError as error:
            self.logger.error(f"Cannot cancel jobs {' '.join(ids)}: {error}")

    def shutdown(self) -> None:
        super().shutdown()
        self.submitter.report(time.monotonic() - self.started)
