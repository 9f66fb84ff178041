"""Records of submitted jobs and of the queue, for programs that report on a workflow.

This module is the plugin's public interface for readers. Other modules may change at any time.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_submitit import ledger, slurm, verdict

SLURM = "slurm"
"""Value of ``SubmittedJob.cluster`` for jobs that were submitted to Slurm."""


class QueueError(Exception):
    """Slurm did not answer; the message is Slurm's."""


@dataclass(frozen=True)
class JobEnd:
    """End of a job that failed or was cancelled."""

    cause: str
    """One of a few fixed phrases, such as "out of memory" or "node lost"."""
    text: str
    """The reason in one line, such as the last error line of the log."""


@dataclass(frozen=True)
class SubmittedJob:
    """A job in the ledger: pending, running, or ended without success."""

    id: str | None
    """Slurm's id or a process id; None until the submission is confirmed."""
    name: str
    """The rule and its wildcards."""
    rule: str
    outputs: tuple[str, ...]
    rule_logs: tuple[str, ...]
    """Log files that the rule declares."""
    job_log: str | None
    """File with the output of the whole job."""
    cluster: str
    submission: str
    """Name of the submission; jobs of one array share it."""
    end: JobEnd | None

    @property
    def may_be_in_slurm_queue(self) -> bool:
        return self.cluster == SLURM and self.end is None


@dataclass(frozen=True)
class QueuedJob:
    """A job as ``squeue`` shows it; ended jobs stay there for a few minutes."""

    id: str
    state: str
    """Slurm's state, such as PENDING."""
    reason: str
    """Slurm's reason for a pending job, such as Priority."""
    node: str
    elapsed: str
    limit: str
    """Elapsed time and time limit as ``days-hours:minutes:seconds``."""
    live: bool
    """True unless the state is a final one."""


def submitted_jobs(folder: Path = ledger.ROOT) -> list[SubmittedJob]:
    """Return all jobs in the ledger of a workflow, the oldest submission first."""
    return [_submitted(entry) for entry in ledger.entries(folder)]


def slurm_queue() -> dict[str, QueuedJob] | None:
    """Return this user's jobs by id; None on a machine without ``squeue``.

    Raise QueueError if Slurm does not answer.
    """
    if not shutil.which("squeue"):
        return None
    try:
        jobs = slurm.queue()
    except slurm.SlurmError as error:
        raise QueueError(str(error)) from None
    return {
        job.id: QueuedJob(job.id, job.state, job.reason, job.node, job.elapsed, job.limit, job.live)
        for job in jobs.values()
    }


def last_lines(path: str | Path | None, count: int) -> list[str]:
    """Return the last lines of a log; an empty list if the file cannot be read."""
    return verdict.tail_of(path, count)


def _submitted(entry: ledger.Entry) -> SubmittedJob:
    end = JobEnd(entry.verdict["cause"], entry.verdict["text"]) if entry.verdict else None
    return SubmittedJob(
        id=entry.id,
        name=entry.name,
        rule=entry.rule,
        outputs=tuple(entry.outputs),
        rule_logs=tuple(entry.logs),
        job_log=entry.log,
        cluster=entry.cluster,
        submission=entry.batch,
        end=end,
    )
