"""What the page knows of each run: its state, figures, record, configuration and log."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from snakemake_executor_plugin_submitit.inspection import last_lines

from analysis.statistics.seeds import POINTS, Metric
from kd.common.durations import duration
from kd.config.plan import Plan
from kd.config.run import ClassifierRun, Run
from kd.monitoring.queue import queue_snapshot
from kd.monitoring.runs import MonitoredRun, read_object
from kd.monitoring.slurm_reasons import ENDED, PENDING, REQUEUED, SUSPENDED
from kd.monitoring.status import (
    DONE,
    FAILED,
    INTERRUPTED,
    SUBMITTED,
    UNSTARTED,
    WAITING,
    Status,
    statuses,
)
from kd.resources.usage import JOULES_PER_KWH

LOG_LINES = 8
LINE_LENGTH = 400
"""Characters of a line of a log; a progress bar can be longer than a page."""
KINDS = {
    DONE: "done",
    **dict.fromkeys([PENDING, REQUEUED, SUBMITTED, SUSPENDED], "queued"),
    **dict.fromkeys([FAILED, INTERRUPTED, ENDED], "failed"),
    **dict.fromkeys([WAITING, UNSTARTED], "todo"),
}
"""The colour of each state of ``kd status``; every other one is of a run that is at work."""
ORDER = ("done", "running", "queued", "failed", "todo")
ACCURACIES = ("top1", "mean_per_class")
Training = Run | ClassifierRun


@dataclass(frozen=True)
class Record:
    """One run of the plan, and what its directory says of it."""

    run: Training
    status: Status
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        return str(self.run.directory)

    @property
    def kind(self) -> str:
        """One of ``ORDER``."""
        return KINDS.get(self.status.state, "running")

    @property
    def figures(self) -> dict[str, float]:
        """Every figure that the evaluation defines, in points."""
        found = {name: self.metrics.get(name) for name in (*get_args(Metric), *ACCURACIES)}
        return {name: POINTS * value for name, value in found.items() if value is not None}

    @property
    def reason(self) -> str:
        """Why it has failed or waits; empty where there is nothing to say."""
        return self.status.note


def gather(planned: Plan) -> tuple[dict[str, Record], str]:
    """Return the runs of a plan by directory, classifiers first, and what keeps from looking."""
    runs: list[Training] = [*planned.classifiers.values(), *planned.runs.values()]
    snapshot = queue_snapshot()
    monitored = [
        MonitoredRun(run.directory, tuple(t.directory for t in teachers(run))) for run in runs
    ]
    run_statuses = statuses(monitored, snapshot)
    records = [_record(run, status) for run, status in zip(runs, run_statuses, strict=True)]
    return {record.directory: record for record in records}, snapshot.problem


def teachers(run: Training) -> list[Training]:
    """Return the detector and the classifier that teach a run, as far as it has them."""
    if isinstance(run, ClassifierRun):
        return []
    return [each for each in (run.teacher, run.classifier) if each]


def _record(run: Training, status: Status) -> Record:
    names = ("metrics", "provenance", "failure")
    return Record(run, status, *(read_object(run.directory / f"{name}.json") for name in names))


def counts(records: Mapping[str, Record]) -> dict[str, int]:
    """Return how many runs are of each kind, in order, without those of no run."""
    kinds = [record.kind for record in records.values()]
    return {kind: kinds.count(kind) for kind in ORDER if kind in kinds}


class Pool:
    """Values that many runs share, each kept once: what a page embeds stays small."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """Return the place of a value of plain data."""
        key = json.dumps(value, sort_keys=True)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]

    def parts(self, value: Mapping[str, Any]) -> dict[str, int]:
        """Return the place of each of an object's values."""
        return {key: self.place(each) for key, each in value.items()}


def embedded(record: Record, places: Mapping[str, int], pool: Pool) -> dict[str, Any]:
    """Return a run as the page's script reads it; ``places`` are those of the runs of the page."""
    taught = [places[str(teacher.directory)] for teacher in teachers(record.run)]
    packages = record.provenance.get("packages") or record.failure.get("packages")
    status = record.status
    return {
        "directory": record.directory,
        "name": record.run.model,
        "seed": record.run.seed,
        "state": status.state,
        "kind": record.kind,
        "note": record.reason,
        "figures": {name: round(value, 4) for name, value in record.figures.items()},
        "facts": facts(record),
        "packages": pool.place(packages) if packages else None,
        "config": pool.parts(record.run.config),
        "log": status.log,
        "lines": [line[:LINE_LENGTH] for line in last_lines(status.log or None, LOG_LINES)],
        "teachers": taught,
    }


def facts(record: Record) -> list[tuple[str, str]]:
    """Return what the record of a run says of its origin and cost, in words and units."""
    found = record.provenance or record.failure
    energy = found.get("energy_joules")
    rows = [
        ("Commit", found.get("commit")),
        ("Started", _time(found.get("started"))),
        ("Finished", _time(found.get("finished"))),
        ("Failed", _time(found.get("time"))),
        ("Hardware", hardware(found)),
        ("Steps", found.get("steps")),
        ("Training time", found.get("seconds") and duration(found["seconds"])),
        ("GPU-seconds", _rounded(found.get("gpu_seconds"), 0)),
        ("Images a second", _rounded(found.get("images_per_second"), 1)),
        ("Peak memory", found.get("peak_memory_mb") and f"{found['peak_memory_mb']:,} MB"),
        ("Energy", None if energy is None else f"{energy / JOULES_PER_KWH:.3f} kWh"),
        ("Data fingerprint", found.get("inputs", {}).get("data")),
        ("Weights, SHA-256", found.get("weights_sha256")),
        ("Published weights", found.get("published_checkpoint")),
        ("Python", found.get("python")),
        ("Slurm job", found.get("slurm_job")),
        ("Command", found.get("command")),
    ]
    return [(label, str(value)) for label, value in rows if value not in (None, "")]


def hardware(found: Mapping[str, Any]) -> str:
    """Return the devices that a run was trained on: ``2 x NVIDIA H200`` or a CPU's threads."""
    devices: Sequence[str] = found.get("devices") or []
    if devices:
        kinds = dict.fromkeys(devices)
        return ", ".join(f"{devices.count(kind)} \u00d7 {kind}" for kind in kinds)
    threads = found.get("threads")
    if not threads:
        return ""
    return f"{found.get('cpu', '')} CPU, {threads} thread{'s' * (threads != 1)}".strip()


def _time(text: Any) -> str | None:
    return str(text).replace("T", " ").replace("+00:00", " UTC") if text else None


def _rounded(value: Any, digits: int) -> str | None:
    return f"{value:,.{digits}f}" if _number(value) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
