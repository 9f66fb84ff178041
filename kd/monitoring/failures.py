"""Failure records of trainings that were killed before they could write one."""

from pathlib import Path

from kd.common.files import write_json
from kd.config.compose import WEIGHTS
from kd.monitoring.queue import queue_snapshot
from kd.records.provenance import now

TRAINING_RULES = ("train", "train_classifier")


def record_failures() -> list[Path]:
    """Write ``failure.json`` for trainings that Slurm ended; return the files written.

    Tables print the reason from this file. A training that fails by itself writes its own record.
    """
    written = []
    for directory, jobs in queue_snapshot(query_slurm=False).jobs.items():
        job = jobs[-1]
        path = directory / "failure.json"
        has_result = path.exists() or (directory / WEIGHTS).exists()
        if job.rule not in TRAINING_RULES or not job.end or has_result or not directory.is_dir():
            continue
        record = {"reason": job.end.text, "kind": job.end.cause, "time": now()}
        write_json(path, {**record, "slurm_job": job.id, "log": job.job_log})
        written.append(path)
    return written
