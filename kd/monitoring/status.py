"""Status of runs, from their files, the ledger of submitted jobs, and the queue."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.inspection import (
    SLURM,
    JobEnd,
    QueuedJob,
    SubmittedJob,
    last_lines,
)

from kd.common.durations import duration
from kd.common.results import VALIDATION
from kd.config.compose import WEIGHTS
from kd.monitoring import slurm_reasons
from kd.monitoring.queue import QueueSnapshot
from kd.monitoring.runs import FOLDERS, MonitoredRun, read_object
from kd.monitoring.slurm_reasons import ENDED, PENDING, REQUEUED, RUNNING
from kd.training import run_lock

FRESH_SECONDS = 120
"""Seconds without new output after which a training outside Slurm counts as interrupted."""

DONE, QUEUED, FAILED = "done", "queued", "failed"
WAITING, UNSTARTED = "waiting for teacher", "not started"
STATES = (DONE, RUNNING, QUEUED, WAITING, FAILED, UNSTARTED)
"""States of runs, in ``kd status`` and in reports; see docs/reference/report.md."""
TRAINED, EVALUATING = "trained", "evaluating"
INTERRUPTED, SUBMITTED = "interrupted", "submitted"
STATE_OF = {
    **dict.fromkeys([EVALUATING, slurm_reasons.STARTING], RUNNING),
    **dict.fromkeys([PENDING, REQUEUED, SUBMITTED, slurm_reasons.SUSPENDED], QUEUED),
    **dict.fromkeys([INTERRUPTED, ENDED], FAILED),
    TRAINED: UNSTARTED,
}
"""State of each detail that is not itself a state."""
EXPLANATIONS = {
    EVALUATING: "evaluating",
    INTERRUPTED: "interrupted",
    REQUEUED: "requeued",
    TRAINED: "trained, evaluation not started",
    slurm_reasons.STARTING: "its node is starting",
    slurm_reasons.SUSPENDED: "suspended by Slurm",
}
"""Words on details that their state leaves out."""
LIVE = frozenset(
    [
        RUNNING,
        PENDING,
        REQUEUED,
        EVALUATING,
        SUBMITTED,
        slurm_reasons.STARTING,
        slurm_reasons.SUSPENDED,
    ]
)
"""Details of runs whose job runs, or will run without a further command."""

NOT_RECORDED = "Snakemake has not recorded it yet"
"""Note on jobs that ended in the queue but not yet in the ledger."""


@dataclass
class Status:
    """State and progress of a run; unknown values are None."""

    run: str
    detail: str = UNSTARTED
    """The state, or a finer word for it such as ``evaluating`` or ``pending``."""
    note: str = ""
    job: str | None = None
    node: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    seconds: float | None = None
    """Duration of the whole training at the measured rate."""
    metric: str = "AP"
    figure: float | None = None
    """Value of the metric, between 0 and 1."""
    split: str | None = None
    """Split that the figure of an unfinished training was measured on."""
    log: str = ""
    slurm_log: str | None = None

    @property
    def state(self) -> str:
        """One of ``STATES``."""
        return STATE_OF.get(self.detail, self.detail)

    @property
    def explanation(self) -> str:
        """The note, after words on what the state leaves out."""
        return ": ".join(filter(None, [EXPLANATIONS.get(self.detail), self.note]))


def statuses(runs: Iterable[MonitoredRun], snapshot: QueueSnapshot) -> list[Status]:
    """Return the status of each run."""
    return [run_status(run, snapshot) for run in runs]


def run_status(run: MonitoredRun, snapshot: QueueSnapshot) -> Status:
    """Return the status of a run."""
    job = snapshot.job_of(run.directory)
    status = _progress(run)
    if job:
        status.job, status.slurm_log = job.id, job.job_log
    live = _live_state(status, job, snapshot, run) if job and not job.end else None
    status.detail, status.note = (
        live or _final_state(run, job) or _unfinished_state(run, status, job, snapshot)
    )
    return status


def other_jobs(snapshot: QueueSnapshot) -> list[Status]:
    """Return the status of jobs without a line of a run: of crops and of validation splits."""
    jobs = {
        (job.submission, job.outputs): job
        for directory, submitted in snapshot.jobs.items()
        for job in submitted
        if directory.parts[:2] not in FOLDERS or directory.name == VALIDATION
    }
    return [_other_job(job, snapshot) for job in jobs.values()]


def _other_job(job: SubmittedJob, snapshot: QueueSnapshot) -> Status:
    status = Status(job.name, SUBMITTED, job=job.id, slurm_log=job.job_log)
    status.log = (*job.rule_logs, job.job_log or "")[0]
    queued = snapshot.queued(job)
    if job.end:
        status.detail, status.note = FAILED, _cause(job.end)
    elif queued and queued.live:
        status.node = queued.node or None
        status.detail = slurm_reasons.STATES.get(queued.state, RUNNING)
        if status.detail == PENDING:
            status.note = slurm_reasons.explain_reason(queued.reason)
    elif job.cluster != SLURM and _is_process(job):
        status.detail = RUNNING
    elif queued or snapshot.queue is not None:
        status.detail, status.note = ENDED, NOT_RECORDED
    return status


def _progress(run: MonitoredRun) -> Status:
    """Return progress, rate and metric from the files of a run."""
    status = Status(str(run.directory), log=str(run.log))
    metrics = read_object(run.directory / "metrics.json")
    status.metric = "top-1" if "top1" in metrics else "AP"
    status.figure = metrics.get("AP", metrics.get("top1"))
    if not metrics:
        validated = _last_record(run.directory / "validation.jsonl")
        status.figure = validated.get("AP")
        status.split = validated.get("split", "test") if validated else None
    record = _last_record(run.directory / "log.jsonl")
    if not record:
        return status
    config = read_object(run.directory / "config.json")
    train_cfg = config.get("train_cfg", {})
    status.epochs = train_cfg.get("stop_epoch", train_cfg.get("max_epochs"))
    status.step, status.epoch = record.get("step"), record.get("epoch")
    status.steps, rate = record.get("steps"), record.get("images_per_second")
    batch = config.get("train_dataloader", {}).get("batch_size")
    status.images_per_second = rate
    if status.step and status.steps and rate and batch:
        status.seconds = status.steps * batch / rate
        trained = (run.directory / WEIGHTS).exists()
        status.seconds_left = 0.0 if trained else (status.steps - status.step) * batch / rate
    return status


def _live_state(
    status: Status, job: SubmittedJob, snapshot: QueueSnapshot, run: MonitoredRun
) -> tuple[str, str] | None:
    """Return detail and note of a run with an unfinished job; None if its files decide."""
    if job.cluster != SLURM:
        return (_working_state(job), "") if _is_fresh(run) or _is_process(job) else None
    queued = snapshot.queued(job)
    if queued:
        status.node = queued.node or None
        return _queued_state(status, job, queued)
    if snapshot.queue is not None and job.id:
        return None
    if _is_fresh(run):
        return _working_state(job), ""
    return SUBMITTED, "" if job.id else "Slurm has not confirmed the submission yet"


def _queued_state(status: Status, job: SubmittedJob, queued: QueuedJob) -> tuple[str, str] | None:
    """Return detail and note of a job in the queue; None if it has succeeded."""
    if queued.state == "COMPLETED":
        return None
    if not queued.live:
        end = slurm_reasons.FINAL_STATES.get(queued.state, queued.state)
        return ENDED, f"{end} (Slurm state {queued.state}); {NOT_RECORDED}"
    state = slurm_reasons.STATES.get(queued.state, _working_state(job))
    if state == PENDING:
        requeued = queued.reason == "BeginTime" or (status.step and job.rule.startswith("train"))
        return REQUEUED if requeued else PENDING, slurm_reasons.explain_reason(queued.reason)
    return state, _time_limit_note(status, queued) if state == RUNNING else ""


def _time_limit_note(status: Status, queued: QueuedJob) -> str:
    """Return a note if the job's time limit comes before the end of the training."""
    limit, elapsed = slurm_reasons.seconds(queued.limit), slurm_reasons.seconds(queued.elapsed)
    if not status.seconds_left or limit is None or elapsed is None:
        return ""
    rest = max(limit - elapsed, 0)
    if rest >= status.seconds_left:
        return ""
    return f"time limit in {duration(rest)}: saves, is requeued and resumes"


def _is_process(job: SubmittedJob) -> bool:
    return bool(job.id and job.id.isdecimal() and Path("/proc", job.id).exists())


def _working_state(job: SubmittedJob) -> str:
    return RUNNING if job.rule.startswith("train") else EVALUATING


def _final_state(run: MonitoredRun, job: SubmittedJob | None) -> tuple[str, str] | None:
    """Return detail and note of a run that is done, trained or failed; otherwise None."""
    directory = run.directory
    if (directory / "metrics.json").exists():
        return DONE, ""
    trained = (directory / WEIGHTS).exists()
    if job and job.end and not (trained and job.rule.startswith("train")):
        return FAILED, _failure(directory) or _cause(job.end)
    if trained:
        return (
            (EVALUATING, "") if _age(directory / "predict.log") < FRESH_SECONDS else (TRAINED, "")
        )
    failure = _failure(directory)
    return (FAILED, failure) if failure else None


def _failure(directory: Path) -> str:
    record = read_object(directory / "failure.json")
    return f"{record.get('kind')}: {record.get('reason')}" if record else ""


def _cause(end: JobEnd) -> str:
    return (
        end.text
        if end.cause in end.text or end.cause == "exception"
        else f"{end.cause}: {end.text}"
    )


def _unfinished_state(
    run: MonitoredRun, status: Status, job: SubmittedJob | None, snapshot: QueueSnapshot
) -> tuple[str, str]:
    """Return detail and note of a run without a live job and without a result."""
    if _is_fresh(run) and not job:
        return RUNNING, ""
    if status.step or job:
        lost_job = f"Job {job.id} is no longer queued. " if job and job.id else ""
        action = "resume" if status.step else "start it again"
        return INTERRUPTED, f"{lost_job}Run `snakemake` again to {action}."
    for teacher in run.teachers:
        if not (teacher / WEIGHTS).exists():
            teacher_job = snapshot.job_of(teacher)
            failed = (teacher_job and teacher_job.end) or (teacher / "failure.json").exists()
            return WAITING, _teacher_name(teacher) + (", which failed" if failed else "")
    return UNSTARTED, ""


def _teacher_name(directory: Path) -> str:
    """Return a teacher's name in tables: detector and backbone, or the classifier's name."""
    return directory.parts[-3 if directory.parts[1] == "runs" else -2]


def _is_fresh(run: MonitoredRun) -> bool:
    """Return True if an unfinished training has shown activity within the last seconds."""
    directory = run.directory
    if (directory / WEIGHTS).exists():
        return False
    ages = [_age(directory / name) for name in ("log.jsonl", "train.log")]
    return min(*ages, run_lock.sign_of_life(directory)) < FRESH_SECONDS


def _age(path: Path) -> float:
    """Return the seconds since a file was written; infinity if it does not exist."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _last_record(path: Path) -> dict[str, Any]:
    """Return the last complete record of a JSON Lines file; the last line may be half written."""
    for line in reversed(last_lines(path, 2)):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            return record
    return {}
