"""Figures of a study: the analysis and the runs of each, without importing torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from analysis.figures import get
from analysis.figures.base import Analysis
from kd.common.errors import UserError, suggest
from kd.config.plan import Plan
from kd.config.planning.control import CONTROL
from kd.config.run import Run, stopped, study_folder
from kd.config.study_parts import Figure, PaperFigure


@dataclass(frozen=True)
class PlannedFigure:
    """A figure of a study, and the runs that it compares, in the order of the table."""

    name: str
    analysis: str
    settings: Analysis
    runs: list[Run]
    folder: Path
    paper: PaperFigure | None = None

    @property
    def inputs(self) -> list[str]:
        """Return the files of the runs that the analysis reads."""
        return [str(path) for run in self.runs for path in self.settings.inputs(run.directory)]

    @property
    def outputs(self) -> list[str]:
        return [str(self.folder / name) for name in self.settings.files()]

    @property
    def pictures(self) -> list[str]:
        """Return the pictures that a report shows, the one that is the paper's figure first."""
        paths = [path for path in self.outputs if path.endswith(".png")]
        first = self.paper.picture if self.paper else None
        return sorted(paths, key=lambda path: Path(path).stem != first)

    def titled(self, title: str) -> str:
        """Return a title, after the name of the paper's figure if it is one."""
        return f"{self.paper.figure} of the paper: {title}" if self.paper else title

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of ``kd figures`` that make the figure."""
        settings = self.settings.model_dump(mode="json", exclude_unset=True)
        assignments = [f"{key}={value}" for key, value in settings.items()]
        directories = [str(run.directory) for run in self.runs]
        options = ["--set", *assignments] if assignments else []
        return [self.analysis, *directories, "--to", str(self.folder), *options]


class NotSelectedError(Exception):
    """A figure needs rows of its study that are not selected; the text names them."""


def plan_figures(plan: Plan, study: str, scale: str) -> dict[str, PlannedFigure]:
    """Return the figures of a study by name, without those whose rows are not selected.

    UserError if a figure names an unknown analysis, setting, table or row.
    """
    figures = _figures(plan, study, scale)
    return {name: figure for name, figure in figures.items() if isinstance(figure, PlannedFigure)}


def left_out(plan: Plan, study: str, scale: str) -> list[str]:
    """Return a line for each figure of a study whose rows are not selected."""
    return [
        f"Figure '{name}' of study '{study}' is left out: {reason}."
        for name, reason in _figures(plan, study, scale).items()
        if isinstance(reason, NotSelectedError)
    ]


def _figures(plan: Plan, study: str, scale: str) -> dict[str, PlannedFigure | NotSelectedError]:
    where = f"configs/studies/{study}.yaml: figure"
    folder = study_folder(study, scale) / "figures"
    figures: dict[str, PlannedFigure | NotSelectedError] = {}
    for name, figure in plan.study.figures.items():
        place = f"{where} '{name}'"
        table = _valid(figure.table, list(plan.study.tables), f"{place}: table")
        kind = get(figure.analysis, place)
        on_validation = any(row.split == "val" for row in plan.rows if row.table == table)
        has_split = on_validation and "measured_on" in kind.model_fields
        split = {"measured_on": "val"} if has_split else {}
        settings = kind.parse({**split, **figure.settings}, f"{place}: settings")
        if figure.paper and figure.paper.picture:
            _valid(figure.paper.picture, list(kind.pictures), f"{place}: paper.picture")
        try:
            runs = _stopped(_runs(figure, table, plan, place), figure.epoch, plan, place)
            figures[name] = PlannedFigure(
                name, figure.analysis, settings, runs, folder / name, figure.paper
            )
        except NotSelectedError as reason:
            figures[name] = reason
    return figures


def _runs(figure: Figure, table: str, plan: Plan, where: str) -> list[Run]:
    """Return the runs of the figure's rows, all of one detector and one pair."""
    rows = [row for row in plan.rows if row.table == table]
    if not rows:
        raise NotSelectedError(f"table '{table}' is not selected")
    part = plan.study.tables[table]

    def valid(key: str, name: str | None, names: Iterable[str], of_table: Iterable[str]) -> str:
        selected = _unique(names)
        if plan.options.selection and (not selected or name in {*of_table} - {*selected}):
            needed = f"{key} '{name}'" if name else f"a {key}"
            raise NotSelectedError(f"{needed} is not selected")
        return _valid(name, selected, f"{where}: {'rows' if key == 'row' else key}")

    detectors = [row.detector for row in rows]
    detector = valid("detector", figure.detector, detectors, part.detectors)
    rows = [row for row in rows if row.detector == detector]
    students = [row.student for row in rows if row.student]
    student = valid("student", figure.student, students, (pair.student for pair in part.pairs))
    student_rows = [row for row in rows if row.student == student]
    teacher = next((row.teacher_backbone for row in student_rows if row.teacher_backbone), "")
    teacher_rows = [row for row in rows if row.kind == "teacher" and row.teacher == teacher]
    rows = teacher_rows + [row for row in student_rows if row.teacher_backbone in ("", teacher)]
    methods = _unique(row.method for row in rows)
    of_table = ("teacher", "baseline", CONTROL, *part.methods)
    usual = _unique(row.method for row in rows if row.kind != "control")
    names = [valid("row", name, methods, of_table) for name in figure.rows or usual]
    figure_rows = [row for name in names for row in rows if row.method == name]
    return list({run.name: run for row in figure_rows for run in row.runs.values()}.values())


def _stopped(runs: list[Run], epoch: int | None, plan: Plan, where: str) -> list[Run]:
    """Return the runs with students that are stopped after an epoch, if there is one.

    UserError if a schedule ends before; NotSelectedError if a change of schedules made it so short.
    """
    if epoch is None:
        return runs
    teachers = {run.teacher.name for run in runs if run.teacher}
    for run in runs:
        epochs = run.composed.epochs
        if epoch > epochs:
            reason = (
                f"epoch {epoch} is after the end of schedule '{run.schedule}' of {epochs} epochs"
            )
            if plan.options.schedule:
                raise NotSelectedError(reason)
            raise UserError(f"{where}: {reason}; name an earlier epoch")
    return [
        run if run.name in teachers or epoch == run.composed.epochs else stopped(run, epoch)
        for run in runs
    ]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _valid(name: str | None, valid_names: list[str], where: str) -> str:
    """Return the name, or the first valid one if it is None; UserError if it is not valid."""
    if name is None:
        return valid_names[0]
    if name not in valid_names:
        raise UserError(f"{where}: no '{name}'; {suggest(name, valid_names)}")
    return name
