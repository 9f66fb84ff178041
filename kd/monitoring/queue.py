"""Snapshot of the submitted jobs and of the Slurm queue."""

from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_submitit.inspection import (
    QueuedJob,
    QueueError,
    SubmittedJob,
    slurm_queue,
    submitted_jobs,
)


@dataclass(frozen=True)
class QueueSnapshot:
    """Submitted jobs by run directory, and the Slurm queue at one moment."""

    jobs: dict[Path, list[SubmittedJob]] = field(default_factory=dict)
    """Jobs by the directory of their outputs, the oldest first."""
    queue: dict[str, QueuedJob] | None = None
    """Queued jobs by id; None if the queue was not read or Slurm did not answer."""
    problem: str = ""
    """Message for the user if Slurm did not answer."""

    def job_of(self, directory: Path) -> SubmittedJob | None:
        """Return the newest unfinished job of a run or, without one, its newest failed job."""
        jobs = self.jobs.get(directory, [])
        unfinished = [job for job in jobs if not job.end]
        return (unfinished or jobs)[-1] if jobs else None

    def queued(self, job: SubmittedJob) -> QueuedJob | None:
        """Return a submitted job as the queue shows it, if it is there."""
        return (self.queue or {}).get(job.id or "")


def queue_snapshot(query_slurm: bool = True) -> QueueSnapshot:
    """Read the ledger of submitted jobs, and the queue if one of them may be in it."""
    jobs: dict[Path, list[SubmittedJob]] = {}
    submitted = submitted_jobs()
    for job in submitted:
        for directory in dict.fromkeys(Path(output).parent for output in job.outputs):
            jobs.setdefault(directory, []).append(job)
    if not (query_slurm and any(job.may_be_in_slurm_queue for job in submitted)):
        return QueueSnapshot(jobs)
    try:
        return QueueSnapshot(jobs, slurm_queue())
    except QueueError as error:
        problem = f"Cannot reach Slurm; showing the state from files. Slurm's message: {error}"
        return QueueSnapshot(jobs, problem=problem)
