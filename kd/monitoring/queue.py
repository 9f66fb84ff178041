"""What there is to look at: the runs of a plan, the ledger of submitted jobs, and the queue."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit import slurm
from snakemake_executor_plugin_submitit.ledger import Entry, entries

from kd.common.results import RESULTS
from kd.common.schema import read_yaml
from kd.config.library import Library
from kd.config.plan import plan
from kd.workflow.workflow import ASKED, Request

DEFAULTS = Path("configs/default.yaml")
FOLDERS = tuple((RESULTS.name, kind) for kind in ("runs", "classifiers"))


@dataclass(frozen=True)
class Target:
    """A directory that is trained in, and those of the teachers it waits for."""

    directory: Path
    teachers: tuple[Path, ...] = ()

    @property
    def log(self) -> Path:
        """What its training printed or, where nobody kept that, the record of its steps."""
        printed = self.directory / "train.log"
        recorded = self.directory / "log.jsonl"
        return recorded if recorded.exists() and not printed.exists() else printed


@dataclass(frozen=True)
class Look:
    """One look at the ledger and the queue; ``queue`` is None where nobody asked or answered."""

    jobs: dict[Path, list[Entry]] = field(default_factory=dict)
    queue: dict[str, slurm.Queued] | None = None
    trouble: str = ""

    def job_of(self, directory: Path) -> Entry | None:
        """Return the newest job that is at work on a run or, without one, the newest failure."""
        found = self.jobs.get(directory, [])
        at_work = [job for job in found if not job.verdict]
        return (at_work or found)[-1] if found else None


def look(ask: bool = True) -> Look:
    """Read the ledger; ask the queue, once, where the ledger has a job that may be in it."""
    jobs: dict[Path, list[Entry]] = {}
    submitted = entries()
    for entry in submitted:
        for directory in dict.fromkeys(Path(output).parent for output in entry.outputs):
            jobs.setdefault(directory, []).append(entry)
    waiting = any(job.cluster == "slurm" and not job.verdict for job in submitted)
    if not (ask and waiting) or not shutil.which("squeue"):
        return Look(jobs)
    try:
        return Look(jobs, slurm.queue())
    except slurm.SlurmError as error:
        return Look(jobs, trouble=f"Slurm does not answer, so this is what the files say: {error}")


@dataclass(frozen=True)
class Asked:
    """What to look at: a study at a scale; whatever is None is as the workflow has it."""

    study: str | None = None
    scale: str | None = None
    seeds: int | None = None
    tables: list[str] | None = None
    everything: bool = False


def targets(asked: Asked, seen: Look) -> list[Target]:
    """Return the runs of a plan, classifiers first; without a study those with jobs as well."""
    request, library = requested(), Library()
    studies = [asked.study] if asked.study else request.studies(library)
    same = asked.study in (None, request.study)
    plans = [
        plan(
            study,
            asked.scale or request.scale,
            library,
            asked.seeds or (request.seeds if same else None),
            asked.tables or (request.tables if same else None),
        )
        for study in studies
    ]
    runs = [run for made in plans for run in (*made.classifiers.values(), *made.runs.values())]
    found = {run.directory: _target(run.directory, run.identity) for run in runs}
    others: list[Path] = [] if asked.study else [*seen.jobs]
    if asked.everything:
        others += on_disk()
    for directory in others:
        if directory not in found and directory.parts[:2] in FOLDERS:
            found[directory] = target_of(directory)
    return list(found.values())


def requested() -> Request:
    """Return what the workflow that began last was asked for or, before any, the defaults."""
    values = read_yaml(DEFAULTS)
    return Request.parse(values | content(ASKED), f"{DEFAULTS} and {ASKED}")


def on_disk() -> list[Path]:
    """Return every directory of a run or classifier that was ever written, in order."""
    found = [*RESULTS.glob(f"runs{'/*' * 6}/run.json")]
    found += RESULTS.glob(f"classifiers{'/*' * 5}/run.json")
    return sorted(path.parent for path in found)


def target_of(directory: Path) -> Target:
    """Return a run by its directory."""
    return _target(directory, content(directory / "run.json"))


def _target(directory: Path, identity: dict[str, Any]) -> Target:
    if directory.parts[:2] != FOLDERS[0]:
        return Target(directory)
    folders = {"runs": identity.get("teacher"), "classifiers": identity.get("classifier")}
    return Target(directory, tuple(RESULTS / kind / name for kind, name in folders.items() if name))


def content(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is none to be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
