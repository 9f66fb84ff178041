"""Figures of a study: the analysis and the runs of each, without importing torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.figures import get
from analysis.figures.base import Analysis
from kd.common.errors import UserError, suggest
from kd.config.parts import Figure
from kd.config.plan import Plan, Row
from kd.config.run import Run, study_folder


@dataclass(frozen=True)
class PlannedFigure:
    """A figure of a study, and the runs that it compares, in the order of the table."""

    name: str
    analysis: str
    settings: Analysis
    runs: list[Run]
    folder: Path

    @property
    def inputs(self) -> list[str]:
        """Return the files of the runs that the analysis reads."""
        return [str(run.directory / name) for run in self.runs for name in self.settings.reads]

    @property
    def outputs(self) -> list[str]:
        return [str(self.folder / name) for name in self.settings.files()]

    @property
    def pictures(self) -> list[str]:
        """Return the pictures that a report shows."""
        return [path for path in self.outputs if path.endswith(".png")]

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of ``kd figures`` that make the figure."""
        settings = self.settings.model_dump(mode="json", exclude_unset=True)
        assignments = [f"{key}={value}" for key, value in settings.items()]
        directories = [str(run.directory) for run in self.runs]
        options = ["--set", *assignments] if assignments else []
        return [self.analysis, *directories, "--to", str(self.folder), *options]


def plan_figures(plan: Plan, study: str, scale: str) -> dict[str, PlannedFigure]:
    """Return the figures of a study by name, without those of tables that are not in the plan.

    UserError if a figure names an unknown analysis, setting, table or row.
    """
    where = f"configs/studies/{study}.yaml: figure"
    folder = study_folder(study, scale) / "figures"
    planned_tables = {row.table for row in plan.rows}
    planned_figures = {}
    for name, figure in plan.study.figures.items():
        table = _valid(figure.table, list(plan.study.tables), f"{where} '{name}': table")
        if table not in planned_tables:
            continue
        kind = get(figure.analysis, f"{where} '{name}'")
        settings = kind.parse(figure.settings, f"{where} '{name}': settings")
        rows = [row for row in plan.rows if row.table == table]
        runs = _runs(figure, rows, f"{where} '{name}'")
        planned_figures[name] = PlannedFigure(name, figure.analysis, settings, runs, folder / name)
    return planned_figures


def _runs(figure: Figure, rows: Sequence[Row], where: str) -> list[Run]:
    """Return the runs of the figure's rows, all of one detector and one pair."""
    detectors = _unique(row.detector for row in rows)
    detector = _valid(figure.detector, detectors, f"{where}: detector")
    rows = [row for row in rows if row.detector == detector]
    students = _unique(row.student for row in rows if row.student)
    student = _valid(figure.student, students, f"{where}: student")
    student_rows = [row for row in rows if row.student == student]
    teacher = next((row.teacher_backbone for row in student_rows if row.teacher_backbone), "")
    teacher_rows = [row for row in rows if row.kind == "teacher" and row.teacher == teacher]
    rows = teacher_rows + [row for row in student_rows if row.teacher_backbone in ("", teacher)]
    methods = _unique(row.method for row in rows)
    names = [_valid(name, methods, f"{where}: rows") for name in figure.rows or methods]
    figure_rows = [row for name in names for row in rows if row.method == name]
    return list({run.name: run for row in figure_rows for run in row.runs.values()}.values())


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _valid(name: str | None, valid_names: list[str], where: str) -> str:
    """Return the name, or the first valid one if it is None; UserError if it is not valid."""
    if name is None:
        return valid_names[0]
    if name not in valid_names:
        raise UserError(f"{where}: no '{name}'; {suggest(name, valid_names)}")
    return name
