"""A Snakemake job on its way through the cluster."""

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
"""Reasons of pending jobs that pass by themselves."""

PENDING_SECONDS = 60
"""How long a job may be pending before its reason is told."""


@dataclass(eq=False)
class Task:
    """A job, what it asks for, and its entry in the ledger once it is submitted."""

    info: SubmittedJobInfo
    request: JobRequest
    command: str
    entry: ledger.Entry
    batch: ledger.JobBatch | None = None
    doubt_since: float | None = None
    pending_since: float | None = None
    told_reason: str = ""

    @property
    def name(self) -> str:
        return self.entry.name

    def payload(self, folder: Path, settings: ExecutorSettings) -> Payload:
        stop_file = folder / f"{self.entry.key[:12]}.stop"
        grace = max(1, settings.signal_seconds - SPARE)
        return Payload(self.command, str(stop_file), grace)

    def doubted_for(self) -> float:
        """Return for how many seconds the job's state has been a doubtful one."""
        now = time.monotonic()
        self.doubt_since = self.doubt_since or now
        return now - self.doubt_since

    def reason_to_tell(self, reason: str) -> bool:
        """Return whether a pending job's reason is news: it lasts, and was not told yet."""
        now = time.monotonic()
        self.pending_since = self.pending_since or now
        if now - self.pending_since < PENDING_SECONDS or reason in {self.told_reason, *QUIET}:
            return False
        self.told_reason = reason
        return True


def entry_of(job: Any, mem_mb: int) -> ledger.Entry:
    """Return the ledger's entry of a Snakemake job or group of jobs."""
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
