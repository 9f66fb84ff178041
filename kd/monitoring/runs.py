"""Runs to report on: those of a plan, those with submitted jobs, and those on disk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.common.results import RESULTS
from kd.common.schema import read_yaml
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import UNCHANGED, StudyOptions
from kd.monitoring.queue import QueueSnapshot
from kd.workflow.options import LAST_OPTIONS, WorkflowOptions

DEFAULTS = Path("configs/default.yaml")
FOLDERS = tuple((RESULTS.name, kind) for kind in ("runs", "classifiers"))
"""First two parts of the directories of runs and of classifier trainings."""


@dataclass(frozen=True)
class StatusOptions:
    """Selection of runs to report on; None leaves a choice to the workflow that started last."""

    study: str | None = None
    scale: str | None = None
    options: StudyOptions = UNCHANGED
    everything: bool = False
    """Report on every run on disk as well."""


@dataclass(frozen=True)
class MonitoredRun:
    """A run or classifier training by its directory, with the directories of its teachers."""

    directory: Path
    teachers: tuple[Path, ...] = ()

    @property
    def log(self) -> Path:
        """Printed output of the training; its step log if only that exists."""
        printed = self.directory / "train.log"
        steps = self.directory / "log.jsonl"
        return steps if steps.exists() and not printed.exists() else printed


def select_runs(options: StatusOptions, snapshot: QueueSnapshot) -> list[MonitoredRun]:
    """Return the runs of a plan, classifiers first; without a study, all runs with jobs as well."""
    last, library = last_options(), Library()
    studies = [options.study] if options.study else last.study_names(library)
    study_options = options.options
    if options.study in (None, last.study):  # the last selection does not apply to another study
        study_options = StudyOptions(
            **{
                key: getattr(study_options, key) or getattr(last, key)
                for key in StudyOptions.model_fields
            }
        )
    plans = [plan(study, options.scale or last.scale, library, study_options) for study in studies]
    planned = [run for p in plans for run in (*p.classifiers.values(), *p.runs.values())]
    runs = {run.directory: _with_teachers(run.directory, run.identity) for run in planned}
    others: list[Path] = [] if options.study else [*snapshot.jobs]
    if options.everything:
        others += runs_on_disk()
    for directory in others:
        if directory not in runs and directory.parts[:2] in FOLDERS:
            runs[directory] = monitored_run(directory)
    return list(runs.values())


def last_options() -> WorkflowOptions:
    """Return the options of the workflow that started last, or the defaults without one."""
    values = read_yaml(DEFAULTS)
    return WorkflowOptions.parse(
        values | read_object(LAST_OPTIONS), f"{DEFAULTS} and {LAST_OPTIONS}"
    )


def runs_on_disk() -> list[Path]:
    """Return the directories of all runs and classifier trainings that were written, sorted."""
    records = [*RESULTS.glob(f"runs{'/*' * 6}/run.json")]
    records += RESULTS.glob(f"classifiers{'/*' * 5}/run.json")
    return sorted(path.parent for path in records)


def monitored_run(directory: Path) -> MonitoredRun:
    """Return a run by its directory."""
    return _with_teachers(directory, read_object(directory / "run.json"))


def _with_teachers(directory: Path, identity: dict[str, Any]) -> MonitoredRun:
    if directory.parts[:2] != FOLDERS[0]:
        return MonitoredRun(directory)
    names = {"runs": identity.get("teacher"), "classifiers": identity.get("classifier")}
    teachers = tuple(RESULTS / kind / name for kind, name in names.items() if name)
    return MonitoredRun(directory, teachers)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if there is none to read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
