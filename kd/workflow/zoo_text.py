"""Text of ``kd plan`` on teachers of mmdet's model zoo: AP, saved hours, files to download."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kd.common import fetch
from kd.common.errors import UserError
from kd.config.compose import compose
from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import Run
from kd.config.study_parts import Checkpoint
from kd.config.zoo.entries import PublishedDetectors
from kd.resources.requests import ResourceRequests
from kd.workflow.options import WorkflowOptions


@dataclass(frozen=True)
class ZooTeacher:
    """A teacher that is imported from mmdet's model zoo."""

    run: Run
    name: str
    ap: float | None
    remark: str
    hours: float | None
    """GPU hours (without GPUs: hours) that the import saves; None without an estimate."""


def describe_teachers(plan: Plan, library: Library) -> list[str]:
    """Return lines on the teachers of a plan that are imported, and on files to download.

    With ``teachers: zoo`` also on those that are trained because the zoo has no equal one.
    """
    imported = zoo_teachers(plan, library)
    lines: list[str] = []
    uses_zoo = plan.options.teachers != "trained"
    if imported or uses_zoo:
        lines += _imported(imported, library, plan)
    if uses_zoo:
        lines += _trained(plan, library)
    return [*lines, *missing_files(_published(plan))]


def zoo_teachers(plan: Plan, library: Library) -> list[ZooTeacher]:
    """Return the teachers of a plan that are imported from mmdet's model zoo."""
    runs = {name: run for run in plan.runs.values() if (name := _zoo_name(run))}
    if not runs:
        return []
    detectors = PublishedDetectors(library)
    options = WorkflowOptions.read(library.root / "default.yaml")
    requests = ResourceRequests(options, plan.scale, library)
    return [
        ZooTeacher(
            run,
            name,
            detectors.line(name).ap,
            detectors.entries[name].remark,
            _hours(run, plan, library, requests),
        )
        for name, run in runs.items()
    ]


def _zoo_name(run: Run) -> str | None:
    """Return the name that imported weights have in mmdet's model zoo."""
    return (run.composed.published_checkpoint or {}).get("zoo")


def missing_files(checkpoints: Iterable[Checkpoint]) -> list[str]:
    """Return lines with the addresses of published weights that are not on this machine."""
    addresses = {
        checkpoint.source: None
        for checkpoint in checkpoints
        if checkpoint.source and checkpoint.sha256 and fetch.is_address(checkpoint.source)
        and fetch.downloaded(checkpoint.source, checkpoint.sha256) is None
    }  # fmt: skip
    if not addresses:
        return []
    count = f"{len(addresses)} file{'s' * (len(addresses) > 1)}"
    return [
        f"Published weights to download: {count}. Trainings download them; on a machine without "
        f"internet, put them into the folder {fetch.FOLDER} under their names:",
        *(f"  {address}" for address in addresses),
    ]


def _published(plan: Plan) -> list[Checkpoint]:
    """Return the published weights that the runs of a plan import or start from."""
    composed = [run.composed for run in plan.runs.values()]
    configs = [one.published_checkpoint or one.initial_checkpoint for one in composed]
    return [Checkpoint.model_validate(config) for config in configs if config]


def _imported(teachers: Sequence[ZooTeacher], library: Library, plan: Plan) -> Iterable[str]:
    """Yield a line on each imported teacher, and one on the hours that they save."""
    if not teachers:
        yield "Teachers from mmdet's model zoo: none"
        return
    yield "Teachers from mmdet's model zoo, with the AP that mmdet reports:"
    for teacher in teachers:
        ap = "no AP" if teacher.ap is None else f"AP {teacher.ap:.1f}"
        differences = PublishedDetectors(library).differences(teacher.name, teacher.run.schedule)
        notes = "; ".join(filter(None, (", ".join(differences), teacher.remark)))
        yield (
            f"  {teacher.run.model}, {teacher.run.schedule}: {teacher.name}, {ap}"
            f"{f' ({notes})' if notes else ''}"
        )
    hours = [teacher.hours for teacher in teachers if teacher.hours is not None]
    without = len(teachers) - len(hours)
    rest = f" ({without} without an estimate)" if without else ""
    if hours:
        unit = "GPU hours" if plan.scale.jobs.gpus else "hours"
        yield f"These imports save about {sum(hours):,.0f} {unit} of training{rest}"


def _trained(plan: Plan, library: Library) -> Iterable[str]:
    """Yield a line on each detector that is trained to teach, with the nearest published ones."""
    detectors = PublishedDetectors(library)
    teachers = {run.teacher.name: run.teacher for run in plan.runs.values() if run.teacher}
    trained = [run for run in teachers.values() if run.composed.published_checkpoint is None]
    if trained:
        yield "Teachers that are trained, because the zoo has no equal one:"
    for run in {(run.model, run.schedule, run.dataset): run for run in trained}.values():
        yield f"  {run.model}, {run.schedule}, {run.dataset}: {detectors.nearest(run)}"


def _hours(run: Run, plan: Plan, library: Library, requests: ResourceRequests) -> float | None:
    """Return the GPU hours that an import saves: 0 if a row trains the same detector anyway."""
    try:
        config = compose(run, {}, plan.scale, library, "the plan")
    except UserError:  # such as a backbone without initial weights
        config = compose(run, {}, plan.scale, library, "the plan", "scratch")
    trained = replace(run, config=config)
    if trained.name in plan.runs:
        return 0.0
    hours = requests.hours(trained)
    return None if hours is None else hours * max(requests.gpus, 1)
