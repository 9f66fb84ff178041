"""Records of runs for the page: state, metrics, origin, configuration and log."""

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
from kd.monitoring.status import STATES, Status, statuses
from kd.resources.usage import JOULES_PER_KWH

LOG_LINES = 8
LINE_LENGTH = 400
"""Characters after which a line of a log is cut; a progress bar can be longer than a page."""
ACCURACIES = ("top1", "mean_per_class")
Training = Run | ClassifierRun


@dataclass(frozen=True)
class RunRecord:
    """One run of the plan with the contents of its directory."""

    run: Training
    status: Status
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """The run's directory as text."""
        return str(self.run.directory)

    @property
    def state(self) -> str:
        """One of the states of ``kd status``."""
        return self.status.state

    @property
    def points(self) -> dict[str, float]:
        """Every defined metric, in points."""
        values = {name: self.metrics.get(name) for name in (*get_args(Metric), *ACCURACIES)}
        return {name: POINTS * value for name, value in values.items() if value is not None}


def gather(planned: Plan) -> tuple[dict[str, RunRecord], str]:
    """Return the runs of a plan by directory, classifiers first, and any problem with the queue."""
    runs: list[Training] = [*planned.classifiers.values(), *planned.runs.values()]
    snapshot = queue_snapshot()
    monitored = [
        MonitoredRun(run.directory, tuple(teacher.directory for teacher in teachers(run)))
        for run in runs
    ]
    run_statuses = statuses(monitored, snapshot)
    records = [_record(run, status) for run, status in zip(runs, run_statuses, strict=True)]
    return {record.directory: record for record in records}, snapshot.problem


def teachers(run: Training) -> list[Training]:
    """Return the teachers of a run: a detector, a classifier, both or neither."""
    if isinstance(run, ClassifierRun):
        return []
    return [teacher for teacher in (run.teacher, run.classifier) if teacher]


def _record(run: Training, status: Status) -> RunRecord:
    names = ("metrics", "provenance", "failure")
    return RunRecord(run, status, *(read_object(run.directory / f"{name}.json") for name in names))


def counts(records: Mapping[str, RunRecord]) -> dict[str, int]:
    """Return the number of runs in each state that occurs."""
    states = [record.state for record in records.values()]
    return {state: states.count(state) for state in STATES if state in states}


class ValuePool:
    """Values that many runs share, each embedded once so that the page stays small."""

    def __init__(self) -> None:
        """Create an empty pool."""
        self.values: list[Any] = []
        self._indices: dict[str, int] = {}

    def index(self, value: Any) -> int:
        """Return the index of a value of plain data, which is added if it is new."""
        key = json.dumps(value, sort_keys=True)
        if key not in self._indices:
            self._indices[key] = len(self.values)
            self.values.append(value)
        return self._indices[key]

    def parts(self, value: Mapping[str, Any]) -> dict[str, int]:
        """Return the index of each value of an object."""
        return {key: self.index(part) for key, part in value.items()}


def embedded(record: RunRecord, indices: Mapping[str, int], pool: ValuePool) -> dict[str, Any]:
    """Return a run as data for the page's script; ``indices``: of the page's runs, by directory."""
    packages = record.provenance.get("packages") or record.failure.get("packages")
    status = record.status
    return {
        "directory": record.directory,
        "name": record.run.model,
        "seed": record.run.seed,
        "state": status.state,
        "note": status.explanation,
        "points": {name: round(value, 4) for name, value in record.points.items()},
        "facts": facts(record),
        "packages": pool.index(packages) if packages else None,
        "config": pool.parts(record.run.config),
        "log": status.log,
        "lines": [line[:LINE_LENGTH] for line in last_lines(status.log or None, LOG_LINES)],
        "teachers": [indices[str(teacher.directory)] for teacher in teachers(record.run)],
    }


def facts(record: RunRecord) -> list[tuple[str, str]]:
    """Return labels and texts of a run's origin and usage, with units, without empty ones."""
    origin = record.provenance or record.failure
    energy = origin.get("energy_joules")
    rows = [
        ("Commit", origin.get("commit")),
        ("Started", _time(origin.get("started"))),
        ("Finished", _time(origin.get("finished"))),
        ("Failed", _time(origin.get("time"))),
        ("Hardware", hardware(origin)),
        ("Steps", origin.get("steps")),
        ("Training time", origin.get("seconds") and duration(origin["seconds"])),
        ("GPU-seconds", _rounded(origin.get("gpu_seconds"), 0)),
        ("Images per second", _rounded(origin.get("images_per_second"), 1)),
        ("Peak memory", origin.get("peak_memory_mb") and f"{origin['peak_memory_mb']:,} MB"),
        ("Energy", None if energy is None else f"{energy / JOULES_PER_KWH:.3f} kWh"),
        ("Data fingerprint", origin.get("inputs", {}).get("data")),
        ("Weights, SHA-256", origin.get("weights_sha256")),
        ("Published weights", origin.get("published_checkpoint")),
        ("Python", origin.get("python")),
        ("Slurm job", origin.get("slurm_job")),
        ("Command", origin.get("command")),
    ]
    return [(label, str(value)) for label, value in rows if value not in (None, "")]


def hardware(origin: Mapping[str, Any]) -> str:
    """Return the devices of a training, such as ``2 x NVIDIA H200`` or a CPU's threads."""
    devices: Sequence[str] = origin.get("devices") or []
    if devices:
        kinds = dict.fromkeys(devices)
        return ", ".join(f"{devices.count(kind)} \u00d7 {kind}" for kind in kinds)
    threads = origin.get("threads")
    if not threads:
        return ""
    return f"{origin.get('cpu', '')} CPU, {threads} thread{'s' * (threads != 1)}".strip()


def _time(text: Any) -> str | None:
    return str(text).replace("T", " ").replace("+00:00", " UTC") if text else None


def _rounded(value: Any, digits: int) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,.{digits}f}" if is_number else None
