"""Where every run is: from its files, the ledger of submitted jobs, and one look at the queue."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.ledger import Entry
from snakemake_executor_plugin_submitit.slurm import Queued
from snakemake_executor_plugin_submitit.verdict import tail_of

from kd.common.durations import duration
from kd.config.compose import WEIGHTS
from kd.monitoring import slurm_reasons
from kd.monitoring.queue import FOLDERS, Look, Target, content
from kd.monitoring.slurm_reasons import ENDED, PENDING, REQUEUED, RUNNING
from kd.training import run_lock

FRESH = 120
"""Seconds without a word or a sign of life after which a training outside Slurm is taken for
interrupted."""

DONE, FAILED, TRAINED, EVALUATING = "done", "failed", "trained", "evaluating"
INTERRUPTED, WAITING, UNSTARTED = "interrupted", "waiting", "not started"
SUBMITTED = "submitted"
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
"""States of a run at which something is at work, or will be without a further command."""


@dataclass
class Status:
    """Where a run is; what is not known is None."""

    run: str
    state: str = UNSTARTED
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
    """What the whole training takes at the measured rate."""
    metric: str = "AP"
    figure: float | None = None
    log: str = ""
    slurm_log: str | None = None


def survey(chosen: Iterable[Target], seen: Look) -> list[Status]:
    """Return where each run is."""
    return [status(target, seen) for target in chosen]


def status(target: Target, seen: Look) -> Status:
    """Return where a run is."""
    job = seen.job_of(target.directory)
    found = _progress(target)
    if job:
        found.job, found.slurm_log = job.id, job.log
    live = _live(found, job, seen, target) if job and not job.verdict else None
    found.state, found.note = live or _ended(target, job) or _unfinished(target, found, job, seen)
    return found


def other_jobs(seen: Look) -> list[Status]:
    """Return where the jobs are that are for no run, such as cutting crops."""
    jobs = {
        (job.batch, job.key): job
        for directory, found in seen.jobs.items()
        for job in found
        if directory.parts[:2] not in FOLDERS
    }
    return [_other(job, seen) for job in jobs.values()]


def _other(job: Entry, seen: Look) -> Status:
    found = Status(job.name, SUBMITTED, job=job.id, slurm_log=job.log)
    found.log = (job.logs or [job.log or ""])[0]
    queued = (seen.queue or {}).get(job.id or "")
    if job.verdict:
        found.state, found.note = FAILED, _cause(job.verdict)
    elif queued and queued.live:
        found.node = queued.node or None
        found.state = slurm_reasons.STATES.get(queued.state, RUNNING)
        found.note = slurm_reasons.why_pending(queued.reason) if found.state == PENDING else ""
    elif job.cluster != "slurm" and _process_lives(job):
        found.state = RUNNING
    elif queued or seen.queue is not None:
        found.state, found.note = ENDED, "Snakemake has not looked at it yet"
    return found


def _progress(target: Target) -> Status:
    """Return what a run's own files say: how far it is, how fast, and its figure."""
    found = Status(str(target.directory), log=str(target.log))
    metrics = content(target.directory / "metrics.json")
    found.metric = "top-1" if "top1" in metrics else "AP"
    so_far = _last_record(target.directory / "validation.jsonl").get("AP")
    found.figure = metrics.get("AP", metrics.get("top1", so_far))
    record = _last_record(target.directory / "log.jsonl")
    if not record:
        return found
    config = content(target.directory / "config.json")
    found.epochs = config.get("train_cfg", {}).get("max_epochs")
    found.step, found.epoch = record.get("step"), record.get("epoch")
    found.steps, rate = record.get("steps"), record.get("images_per_second")
    batch = config.get("train_dataloader", {}).get("batch_size")
    found.images_per_second = rate
    if found.step and found.steps and rate and batch:
        found.seconds = found.steps * batch / rate
        trained = (target.directory / WEIGHTS).exists()
        found.seconds_left = 0.0 if trained else (found.steps - found.step) * batch / rate
    return found


def _live(found: Status, job: Entry, seen: Look, target: Target) -> tuple[str, str] | None:
    """Return state and note of a run that a job without a verdict is for; None: see its files."""
    if job.cluster != "slurm":
        return (_at_work(job), "") if _fresh(target) or _process_lives(job) else None
    queued = (seen.queue or {}).get(job.id or "")
    if queued:
        found.node = queued.node or None
        return _queued(found, job, queued)
    if seen.queue is not None and job.id:
        return None
    if _fresh(target):
        return _at_work(job), ""
    return SUBMITTED, "" if job.id else "Slurm has not confirmed it yet"


def _queued(found: Status, job: Entry, queued: Queued) -> tuple[str, str] | None:
    """Return state and note of a job as the queue shows it; None where it has succeeded."""
    if queued.state == "COMPLETED":
        return None
    if not queued.live:
        how = slurm_reasons.ENDINGS.get(queued.state, queued.state)
        return ENDED, f"{how} (Slurm says {queued.state}); Snakemake has not looked at it yet"
    state = slurm_reasons.STATES.get(queued.state, _at_work(job))
    if state == PENDING:
        again = queued.reason == "BeginTime" or (found.step and job.rule.startswith("train"))
        return REQUEUED if again else PENDING, slurm_reasons.why_pending(queued.reason)
    return state, _cut_short(found, queued) if state == RUNNING else ""


def _cut_short(found: Status, queued: Queued) -> str:
    """Say so where the time limit comes before the end of the training."""
    limit, elapsed = slurm_reasons.seconds(queued.limit), slurm_reasons.seconds(queued.elapsed)
    if not found.seconds_left or limit is None or elapsed is None:
        return ""
    rest = max(limit - elapsed, 0)
    if rest >= found.seconds_left:
        return ""
    return f"time limit in {duration(rest)}: it is saved, requeued and goes on"


def _process_lives(job: Entry) -> bool:
    return bool(job.id and job.id.isdecimal() and Path("/proc", job.id).exists())


def _at_work(job: Entry) -> str:
    return RUNNING if job.rule.startswith("train") else EVALUATING


def _ended(target: Target, job: Entry | None) -> tuple[str, str] | None:
    """Return state and note of a run that is done, trained or failed; None of any other."""
    directory = target.directory
    if (directory / "metrics.json").exists():
        return DONE, ""
    trained = (directory / WEIGHTS).exists()
    if job and job.verdict and not (trained and job.rule.startswith("train")):
        return FAILED, _failure(directory) or _cause(job.verdict)
    if trained:
        return (EVALUATING, "") if _changed(directory / "predict.log") < FRESH else (TRAINED, "")
    failure = _failure(directory)
    return (FAILED, failure) if failure else None


def _failure(directory: Path) -> str:
    record = content(directory / "failure.json")
    return f"{record.get('kind')}: {record.get('reason')}" if record else ""


def _cause(verdict: dict[str, str]) -> str:
    cause, text = verdict["cause"], verdict["text"]
    return text if cause in text or cause == "exception" else f"{cause}: {text}"


def _unfinished(target: Target, found: Status, job: Entry | None, seen: Look) -> tuple[str, str]:
    """Return state and note of a run that no job is at work on and that has no result."""
    if _fresh(target) and not job:
        return RUNNING, ""
    if found.step or job:
        gone = f"job {job.id} has left the queue; " if job and job.id else ""
        onward = "goes on from there" if found.step else "starts it again"
        return INTERRUPTED, f"{gone}the next `snakemake` {onward}"
    for teacher in target.teachers:
        if not (teacher / WEIGHTS).exists():
            known = seen.job_of(teacher)
            failed = (known and known.verdict) or (teacher / "failure.json").exists()
            return WAITING, f"for teacher {_called(teacher)}" + (", which failed" if failed else "")
    return UNSTARTED, ""


def _called(directory: Path) -> str:
    """Return a teacher as rows call it: detector and backbone, or a classifier's name."""
    return directory.parts[-3 if directory.parts[1] == "runs" else -2]


def _fresh(target: Target) -> bool:
    directory = target.directory
    if (directory / WEIGHTS).exists():
        return False
    ages = [_changed(directory / name) for name in ("log.jsonl", "train.log")]
    return min(*ages, run_lock.sign_of_life(directory)) < FRESH


def _changed(path: Path) -> float:
    """Return the seconds since a file was written; infinity where there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _last_record(path: Path) -> dict[str, Any]:
    """Return the last whole record of a step log."""
    for line in reversed(tail_of(path, 2)):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}
