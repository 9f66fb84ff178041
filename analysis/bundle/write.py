"""Write a study to one file that others can verify: ``kd bundle``."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata as installed
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from analysis.bundle import contents, crate
from analysis.bundle.archive import Member, json_bytes, write_archive
from analysis.bundle.readme import readme
from analysis.bundle.table_rows import FILE as ROWS
from analysis.bundle.table_rows import FORMAT, TableRows
from analysis.bundle.truth import SplitTruths
from analysis.tables.rows import DONE
from analysis.tables.write import PARTIAL, heading, publish, specifications
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.results import results_folder
from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import ClassifierRun, Run, study_folder
from kd.data.entry import SplitName
from kd.evaluation.evaluate import DETECTIONS
from kd.workflow.options import study_config

NAME = "bundle.zip"
NO_LICENSE = "The author of the results has not stated a license."
SPLITS: tuple[SplitName, ...] = ("test", "val")
Training = Run | ClassifierRun


class BundleOptions(NamedTuple):
    """Options of a bundle."""

    path: Path | None = None
    """The file, by default ``bundle.zip`` in the folder of the study's results."""
    weights: bool = False
    """Add the weights of every run."""
    license: str | None = None
    """License of the results, an SPDX identifier or an address."""


@dataclass(frozen=True)
class Bundle:
    """A written bundle."""

    path: Path
    files: int
    finished: int
    failed: int
    planned: int
    """Trainings of the selected rows, with their teachers."""


def write_bundle(plan: Plan, name: str, scale: str, options: BundleOptions) -> Bundle:
    """Write the tables of a study, then a bundle of all that they were computed from.

    UserError if no run finished or failed, if the data set of a measured run is absent, and if
    detections or metrics of a run are those of other data or weights.
    """
    library = Library()
    trainings = _trainings(plan)
    recorded = [run for run in trainings if contents.has_record(run.directory)]
    if not recorded:
        raise UserError(
            f"{study_folder(name, scale)}: no run of study '{name}' at scale '{scale}' finished or "
            f"failed; run it: snakemake --config study={name} scale={scale}"
        )
    publish(plan, name, scale)
    truths = SplitTruths(library)
    for run in recorded:
        _check_results(run, truths)
    rows = _rows(plan, name, scale)
    facts = _facts(plan, rows, recorded, truths, options.license)
    members = list(_members(rows, trainings, truths, options.weights))
    planned = {run.directory for run in (*plan.classifiers.values(), *plan.runs.values())}
    text = readme(facts, len(plan.rows), rows.folder, len(planned))
    members.append(Member(crate.README, text.encode()))
    members.sort(key=lambda member: member.name)
    actions = [_action(run) for run in recorded]
    document = json_bytes(crate.metadata(facts, members, actions))
    path = options.path or study_folder(name, scale) / NAME
    write_archive(path, [*members, Member(crate.FILE, document)])
    selected = [run for run in recorded if run.directory in planned]
    failed = sum((run.directory / "failure.json").exists() for run in selected)
    return Bundle(path, len(members) + 1, len(selected) - failed, failed, len(planned))


def _trainings(plan: Plan) -> list[Training]:
    """Return all trainings that the tables depend on, teachers first, each once.

    Gains of selected rows are judged with all rows of their tables.
    """
    others = [run for row in plan.table_rows for run in row.runs.values()]
    students = {**plan.runs, **{run.name: run for run in others}}
    teachers = (run.teacher for run in students.values() if run.teacher)
    classifiers = (run.classifier for run in students.values() if run.classifier)
    runs: Iterator[Training] = chain(classifiers, teachers, students.values())
    return list({run.directory: run for run in runs}.values())


def _check_results(run: Training, truths: SplitTruths) -> None:
    """Read the ground truth of a detector's results."""
    if isinstance(run, ClassifierRun):  # its predictions hold the true labels
        return
    for split in SPLITS:
        folder = results_folder(run.directory, split)
        if (folder / DETECTIONS).exists() and (folder / "metrics.json").exists():
            truths.add(run.directory, split)


def _rows(plan: Plan, name: str, scale: str) -> TableRows:
    rows, planned = specifications(plan, Library())
    folder = study_folder(name, scale)
    tables = TableRows(
        format=FORMAT,
        study=name,
        scale=scale,
        folder=folder.as_posix(),
        title=heading(plan, scale),
        caption=plan.study.title,
        rows=rows,
        planned=planned,
    )
    is_complete = all(row.status == DONE for row in tables.results())
    return tables if is_complete else replace(tables, folder=(folder / PARTIAL).as_posix())


def _members(
    rows: TableRows, trainings: list[Training], truths: SplitTruths, weights: bool
) -> Iterator[Member]:
    """Yield the files of the bundle without its README and its metadata."""
    yield Member(ROWS, rows.to_json())
    yield from contents.project_members(rows.study)
    yield from contents.check_members(sorted({name for name, _ in truths.splits}))
    yield from truths.members()
    yield from contents.study_members(Path(rows.folder))
    for run in trainings:
        yield from contents.run_members(run.directory, weights)


def _facts(
    plan: Plan,
    rows: TableRows,
    recorded: list[Training],
    truths: SplitTruths,
    license: str | None,
) -> crate.StudyFacts:
    records = [_record(run) for run in recorded]
    trained_on: dict[str, str] = {}
    for run, record in zip(recorded, records, strict=True):
        trained_on.setdefault(run.dataset, record.get("inputs", {}).get("data", ""))
    ends = [record.get("finished") or record.get("time") for record in records]
    return crate.StudyFacts(
        name=rows.study,
        scale=rows.scale,
        title=rows.title,
        description=f"Runs, detections and tables of study {rows.study} of kd-detection at scale "
        f"{rows.scale}: {len(recorded)} runs. README.md explains how to verify them.",
        license=license or NO_LICENSE,
        date=max(end for end in ends if end),
        version=installed.version(crate.PACKAGE),
        snakemake=installed.version("snakemake"),
        datasets=[truths.facts(name, trained) for name, trained in trained_on.items()],
        command=shlex.join(["snakemake", *study_config(rows.study, rows.scale, plan.options)]),
    )


def _action(run: Training) -> crate.RunAction:
    teachers = () if isinstance(run, ClassifierRun) else (run.classifier, run.teacher)
    failure = run.directory / "failure.json"
    error = read_json(failure)["reason"] if failure.exists() else ""
    return crate.RunAction(
        directory=run.directory.as_posix(),
        name=run.name,
        description=f"Training of {run.model} with seed {run.seed}, and its evaluation",
        record=_record(run),
        error=error,
        dataset=run.dataset,
        teachers=[teacher.directory.as_posix() for teacher in teachers if teacher],
    )


def _record(run: Training) -> dict[str, Any]:
    names = ("failure.json", "provenance.json")
    path = next(path for name in names if (path := run.directory / name).exists())
    record: dict[str, Any] = read_json(path)
    return record
