"""The figures of a study: which analysis of which runs; nothing here imports torch."""

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
class Planned:
    """A figure of a study, and the runs that it is made of, in the order of the table."""

    name: str
    analysis: str
    settings: Analysis
    runs: list[Run]
    folder: Path

    @property
    def inputs(self) -> list[str]:
        """The files of the runs that it reads."""
        return [str(run.directory / name) for run in self.runs for name in self.settings.reads]

    @property
    def outputs(self) -> list[str]:
        return [str(self.folder / name) for name in self.settings.files()]

    @property
    def pictures(self) -> list[str]:
        """The pictures that a report shows."""
        return [path for path in self.outputs if path.endswith(".png")]

    @property
    def arguments(self) -> list[str]:
        """The arguments of ``kd analyze`` that make it."""
        given = self.settings.model_dump(mode="json", exclude_unset=True)
        chosen = [f"{key}={value}" for key, value in given.items()]
        directories = [str(run.directory) for run in self.runs]
        sets = ["--set", *chosen] if chosen else []
        return [self.analysis, *directories, "--to", str(self.folder), *sets]


def figures(plan: Plan, study: str, scale: str) -> dict[str, Planned]:
    """Return the figures of a study by name; UserError on anything that could not be drawn.

    A figure of a table that was not asked for is left out.
    """
    where = f"configs/studies/{study}.yaml: figure"
    folder = study_folder(study, scale) / "figures"
    asked = {row.table for row in plan.rows}
    found = {}
    for name, figure in plan.study.figures.items():
        table = _named(figure.table, list(plan.study.tables), f"{where} '{name}': table")
        if table not in asked:
            continue
        kind = get(figure.analysis, f"{where} '{name}'")
        settings = kind.parse(figure.settings, f"{where} '{name}': settings")
        rows = [row for row in plan.rows if row.table == table]
        runs = _runs(figure, rows, f"{where} '{name}'")
        found[name] = Planned(name, figure.analysis, settings, runs, folder / name)
    return found


def _runs(figure: Figure, rows: Sequence[Row], where: str) -> list[Run]:
    """Return the runs of the chosen rows of one detector and pair."""
    detector = _named(figure.detector, _each(row.detector for row in rows), f"{where}: detector")
    rows = [row for row in rows if row.detector == detector]
    student = _named(
        figure.student, _each(row.student for row in rows if row.student), f"{where}: student"
    )
    of_pair = [row for row in rows if row.student == student]
    teacher = next((row.teacher_backbone for row in of_pair if row.teacher_backbone), "")
    rows = [row for row in rows if row.kind == "teacher" and row.teacher == teacher] + [
        row for row in of_pair if row.teacher_backbone in ("", teacher)
    ]
    known = _each(row.method for row in rows)
    names = [_named(name, known, f"{where}: rows") for name in figure.rows or known]
    chosen = [row for name in names for row in rows if row.method == name]
    return list({run.name: run for row in chosen for run in row.runs.values()}.values())


def _each(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _named(name: str | None, known: list[str], where: str) -> str:
    """Return a name that must be known; the first one where none is given."""
    if name is None:
        return known[0]
    if name not in known:
        raise UserError(f"{where}: no '{name}'; {suggest(name, known)}")
    return name
