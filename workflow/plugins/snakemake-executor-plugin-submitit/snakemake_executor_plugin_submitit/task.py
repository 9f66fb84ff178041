"""Task of the executor: a Snakemake job with its request and its ledger entry."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_submitit import ledger
from snakemake_executor_plugin_submitit.payload import SPARE, Payload
from snakemake_executor_plugin_submitit.request import JobRequest
from snakemake_executor_plugin_submitit.settings import ExecutorSettings

QUIET = frozenset({"", "None", "Priority", "Resources", "BeginTime"})
"""Reasons of pending jobs that resolve by themselves."""

PENDING_SECONDS = 60
"""Seconds that a job may be pending before its reason is reported."""


@dataclass(eq=False)
class Task:
    """A Snakemake job, the resources it requests, and its ledger entry."""

    info: SubmittedJobInfo
    request: JobRequest
    command: str
    entry: ledger.Entry
    batch: ledger.JobBatch | None = None
    doubt_since: float | None = None
    pending_since: float | None = None
    reported_reason: str = ""

    @property
    def name(self) -> str:
        return self.entry.name

    def payload(self, folder: Path, settings: ExecutorSettings) -> Payload:
        stop_file = folder / f"{self.entry.key[:12]}.stop"
        grace = max(1, settings.signal_seconds - SPARE)
        return Payload(self.command, str(stop_file), grace, requeue=settings.requeue == "yes")

    def doubted_for(self) -> float:
        """Return the seconds since the job's state became doubtful."""
        now = time.monotonic()
        self.doubt_since = self.doubt_since or now
        return now - self.doubt_since

    def is_new_reason(self, reason: str) -> bool:
        """Return True once for each reason for which a job stays pending, if it lasts."""
        now = time.monotonic()
        self.pending_since = self.pending_since or now
        if now - self.pending_since < PENDING_SECONDS or reason in {self.reported_reason, *QUIET}:
            return False
        self.reported_reason = reason
        return True


def entry_of(job: Any, mem_mb: int) -> ledger.Entry:
    """Return a new ledger entry for a Snakemake job or group of jobs."""
    outputs = sorted(str(path) for path in job.output)
    single = not job.is_group()
    return ledger.Entry(
        key=ledger.sha1(outputs or [job.name, str(job.jobid)]),
        digest=ledger.sha1([*job.rules, str(job.shellcmd) if single else ""]),
        rule=job.name,
        wildcards=dict(job.wildcards_dict) if single else {},
        outputs=outputs,
        logs=[str(path) for path in job.log] if single else [],
        mem_mb=mem_mb,
    )
