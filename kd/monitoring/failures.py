"""Failures that a run could not write down itself, because it was killed."""

from pathlib import Path

from kd.common.files import write_json
from kd.config.compose import WEIGHTS
from kd.monitoring.queue import look
from kd.records.provenance import now

TRAININGS = ("train", "train_classifier")


def record_failures() -> list[Path]:
    """Write ``failure.json`` for trainings that Slurm ended, so that tables give the reason.

    Return what was written. A training that failed by itself has left its own.
    """
    written = []
    for directory, jobs in look(ask=False).jobs.items():
        job = jobs[-1]
        path = directory / "failure.json"
        finished = path.exists() or (directory / WEIGHTS).exists()
        if job.rule not in TRAININGS or not job.verdict or finished or not directory.is_dir():
            continue
        record = {"reason": job.verdict["text"], "kind": job.verdict["cause"], "time": now()}
        write_json(path, {**record, "slurm_job": job.id, "log": job.log})
        written.append(path)
    return written
