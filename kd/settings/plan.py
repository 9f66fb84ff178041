"""From a study to its rows and runs; nothing here imports torch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

from kd.errors import UserError, suggest
from kd.settings.classifiers import ClassifierRun, classifier_run
from kd.settings.compose import compose, imported, merge
from kd.settings.library import Library
from kd.settings.methods import check_overrides, check_readable, resolve, teachers
from kd.settings.parts import Pair, Scale, Study, Table
from kd.settings.published import read_published
from kd.settings.run import Run


@dataclass(frozen=True)
class Row:
    """One row of a table: its runs by seed, and what was published for it."""

    table: str
    detector: str
    teacher: str
    student: str
    method: str
    kind: Literal["teacher", "baseline", "distilled"]
    runs: dict[int, Run]
    baselines: dict[int, Run]
    published: dict[str, float]
    published_baseline: dict[str, float]
    setting: str = ""
    """What tells it from the other rows of a sweep, such as ``weight 2``."""


@dataclass(frozen=True)
class Plan:
    """A study at a scale: its rows in order, and every run they need, teachers first."""

    study: Study
    scale: Scale
    rows: list[Row]

    @property
    def runs(self) -> dict[str, Run]:
        """All runs by name."""
        found: dict[str, Run] = {}
        for row in self.rows:
            for run in row.runs.values():
                if run.teacher:
                    found.setdefault(run.teacher.name, run.teacher)
                found.setdefault(run.name, run)
        return found

    @property
    def classifiers(self) -> dict[str, ClassifierRun]:
        """The classifier teachers by name."""
        taught = [run.classifier for run in self.runs.values() if run.classifier]
        return {classifier.name: classifier for classifier in taught}


def plan(
    name: str,
    scale: str,
    library: Library,
    seeds: int | None = None,
    tables: list[str] | None = None,
) -> Plan:
    """Return the plan of a study; UserError on anything that could not run.

    ``seeds``: how many, over the study's own number; ``tables``: only these.
    """
    study = library.study(name, "study")
    for table in tables or []:
        if table not in study.tables:
            raise UserError(
                f"study '{name}' has no table '{table}'; {suggest(table, study.tables)}"
            )
    count = study.seeds if seeds is None else seeds
    if count < 1:
        raise UserError(f"seeds: {count}; at least one is needed")
    planner = _Planner(name, study, scale, library, count)
    rows = [row for key in tables or study.tables for row in planner.table(key)]
    return Plan(study, planner.scale, rows)


class _Planner:
    def __init__(self, name: str, study: Study, scale: str, library: Library, seeds: int) -> None:
        self.where = f"configs/studies/{name}.yaml"
        self.library, self.study = library, study
        self.scale_name, self.scale = scale, library.scale(scale, "scale")
        _check_scale(self.scale, library, f"configs/scales/{scale}.yaml")
        self.seeds = range(seeds)
        self.published = read_published(library, study, self.where)

    def table(self, key: str) -> list[Row]:
        table = self.study.tables[key]
        for changes in (table.settings, table.sweep):
            check_overrides(changes, table.methods, f"{self.where}: table '{key}'")
        return [
            row
            for detector in table.detectors
            for pair in table.pairs
            for row in self._pair(key, table, detector, pair)
        ]

    def _pair(self, key: str, table: Table, detector: str, pair: Pair) -> list[Row]:
        where = f"{self.where}: table '{key}'"
        teacher = self._teacher(table, detector, pair, where)
        baselines = {s: self._alone(table, detector, pair.student, s, where) for s in self.seeds}

        def row(method: str, kind: Any, runs: dict[int, Run]) -> Row:
            distilled = kind == "distilled"
            return Row(
                key, detector, (pair.teacher or "") if kind != "baseline" else "",
                pair.student if kind != "teacher" else "", method, kind, runs,
                baselines if distilled else {},
                self._numbers(table, detector, pair, method),
                self._numbers(table, detector, pair, "baseline") if distilled else {},
            )  # fmt: skip

        rows = [row("teacher", "teacher", {0: teacher})] if teacher else []
        rows.append(row("baseline", "baseline", baselines))
        for method in table.methods:
            for setting, changed in _swept(table, method):
                runs = {
                    s: self._distilled(changed, detector, pair, method, teacher, s, where)
                    for s in self.seeds
                }
                distilled = row(method, "distilled", runs)
                rows.append(
                    replace(distilled, published={}, setting=setting) if setting else distilled
                )
        return rows

    def _teacher(self, table: Table, detector: str, pair: Pair, where: str) -> Run | None:
        if pair.teacher is None:
            return None
        run = self._alone(table, pair.teacher_detector or detector, pair.teacher, 0, where)
        if pair.checkpoint is None:
            return run
        config = imported(run, pair.checkpoint, self.scale, self.library, where)
        return replace(run, config=config)

    def _classifier(self, table: Table, detector: str, where: str) -> ClassifierRun:
        """Return the run of the classifier that teaches a detector's family."""
        family = self.library.detector(detector, where).augmentation
        if family not in table.classifiers:
            raise UserError(
                f"{where}: key 'classifiers' names none for '{family}', the family of detector "
                f"'{detector}'; {suggest(family, self.library.names('classifiers'))}"
            )
        name = table.classifiers[family]
        name = self.scale.classifiers.get(name, name)
        dataset = self.scale.datasets.get(table.dataset, table.dataset)
        return classifier_run(name, self.scale_name, dataset, 0, self.library, where)

    def _alone(self, table: Table, detector: str, backbone: str, seed: int, where: str) -> Run:
        return self._composed(self._named(table, detector, backbone, seed), {}, where)

    def _distilled(
        self,
        table: Table,
        detector: str,
        pair: Pair,
        method: str,
        teacher: Run | None,
        seed: int,
        where: str,
    ) -> Run:
        terms = resolve(method, table.settings, detector, self.library, where)
        other = (pair.teacher_detector or detector) if teacher else None
        check_readable(terms, detector, other, self.library, where)
        kinds = teachers(terms)
        if "detector" in kinds and teacher is None:
            raise UserError(
                f"{where}: method '{method}' learns from a detector, and the pair with student "
                f"'{pair.student}' names no teacher"
            )
        run = replace(
            self._named(table, detector, pair.student, seed),
            method=method,
            teacher=teacher if "detector" in kinds else None,
            classifier=self._classifier(table, detector, where) if "classifier" in kinds else None,
        )
        return self._composed(run, terms, where)

    def _named(self, table: Table, detector: str, backbone: str, seed: int) -> Run:
        scale = self.scale
        return Run(
            scale=self.scale_name,
            dataset=scale.datasets.get(table.dataset, table.dataset),
            schedule=scale.schedules.get(table.schedule, table.schedule),
            detector=detector,
            student=scale.backbones.get(backbone, backbone),
            seed=seed,
        )

    def _composed(self, run: Run, terms: dict[str, Any], where: str) -> Run:
        return replace(run, config=compose(run, terms, self.scale, self.library, where))

    def _numbers(self, table: Table, detector: str, pair: Pair, method: str) -> dict[str, float]:
        teacher = (pair.teacher or "") if method != "baseline" else ""
        student = pair.student if method != "teacher" else ""
        return self.published.get((table.published or "", detector, teacher, student, method), {})


def _swept(table: Table, method: str) -> Iterator[tuple[str, Table]]:
    """Yield a method's rows: what each sets, in words, and the table with that setting."""
    swept = {term: table.sweep[term] for term in method.split("+") if term in table.sweep}
    if not swept:
        yield "", table
    for term, settings in swept.items():
        for name, values in settings.items():
            for value in values:
                changed = {**table.settings.get(term, {}), name: value}
                text = f"{name.replace('_', ' ')} {value}"
                yield text, table.model_copy(update={"settings": {**table.settings, term: changed}})


def _check_scale(scale: Scale, library: Library, where: str) -> None:
    """Refuse a scale that names, for itself or for a stand-in, what does not exist."""
    for dataset in chain(*scale.datasets.items()):
        library.dataset(dataset, f"{where}: key 'datasets'")
    for schedule in chain(*scale.schedules.items()):
        library.schedule(schedule, f"{where}: key 'schedules'")
    for classifier in chain(*scale.classifiers.items()):
        library.classifier(classifier, f"{where}: key 'classifiers'")
    for backbone in chain(*scale.backbones.items()):
        library.backbone(backbone, f"{where}: key 'backbones'")
    for detector, changes in scale.detectors.items():
        part = library.detector(detector, f"{where}: key 'detectors'")
        merge(part.model, changes, f"{where}: detectors.{detector}")
