"""Plan of a study: its rows and runs. This module does not import torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal

from kd.common.errors import UserError, suggest
from kd.common.merging import merge
from kd.config import stand_ins
from kd.config.classifiers import classifier_run
from kd.config.compose import compose
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.planning.cells import TableCell, row_key, swept_settings
from kd.config.planning.control import CONTROL, equal_times, lengthened
from kd.config.planning.teachers import check_student, imported_teacher, teacher_of
from kd.config.planning.term_epochs import with_scaled_epochs
from kd.config.published import find, read_published
from kd.config.run import ClassifierRun, Run
from kd.config.schedules import describe_changes, parse_changes
from kd.config.selection import UNCHANGED, StudyOptions, check_names, selected
from kd.config.stand_ins import check_detector
from kd.config.study_parts import Study
from kd.config.terms import check_overrides, check_readable, resolve, teachers
from kd.config.zoo.entries import PublishedDetectors
from kd.data.entry import SplitName

Kind = Literal["teacher", "baseline", "control", "distilled"]


@dataclass(frozen=True)
class Row:
    """One row of a table: its runs by seed, and its published numbers."""

    key: str
    """Its place in the study, such as ``table1/1x/retinanet/r50-r18/pfi``."""
    table: str
    schedule: str
    """Name in the study, like detector, student and teachers; runs may have stand-ins."""
    detector: str
    teacher: str
    """Backbone of the teacher; the classifier of a row without a teacher detector; or ``""``."""
    student: str
    method: str
    kind: Kind
    metric: str
    """The main metric: ``AP``, or ``VOC07`` for a data set with ``metric: voc``."""
    runs: dict[int, Run]
    baselines: dict[int, Run]
    published: dict[str, float]
    published_baseline: dict[str, float]
    setting: str = ""
    """Schedule or swept settings that other rows do not share, such as ``2x`` or ``weight 2``."""
    classifier: str = ""
    differs: str = ""
    """Reason why the conditions of a published number differ from ours even at paper scale."""
    remark: str = ""
    """Origin of a published number, if not the source itself."""
    source: str = ""
    split: SplitName = "test"
    """Split that the row is measured on."""

    @property
    def compared(self) -> bool:
        """True for a row that is compared with its baseline: a distilled row or a control."""
        return self.kind in ("control", "distilled")

    @property
    def teacher_backbone(self) -> str:
        """The teacher detector's backbone, ``""`` without one."""
        has_teacher = self.kind == "teacher" or any(run.teacher for run in self.runs.values())
        return self.teacher if has_teacher else ""


@dataclass(frozen=True)
class Plan:
    """A study at a scale: its rows in order, and all their runs, teachers first."""

    study: Study
    scale: Scale
    rows: list[Row]
    options: StudyOptions = UNCHANGED
    """The selection of the rows, and the changes of seeds and schedules."""
    table_rows: Sequence[Row] = ()
    """All rows of the tables of ``rows``: gains of a selection are judged as part of them."""

    @property
    def runs(self) -> dict[str, Run]:
        """All runs by name."""
        runs: dict[str, Run] = {}
        for row in self.rows:
            for run in row.runs.values():
                if run.teacher:
                    runs.setdefault(run.teacher.name, run.teacher)
                runs.setdefault(run.name, run)
        return runs

    @property
    def classifiers(self) -> dict[str, ClassifierRun]:
        """The classifier teachers by name."""
        classifiers = [run.classifier for run in self.runs.values() if run.classifier]
        return {classifier.name: classifier for classifier in classifiers}


def plan(name: str, scale: str, library: Library, options: StudyOptions = UNCHANGED) -> Plan:
    """Return the plan of a study's selected rows; UserError on anything that could not run."""
    study = library.study(name, "study")
    check_names(options, name, study)
    planner = _Planner(name, study, scale, library, options)
    rows = [row for key in options.tables or study.tables for row in planner.table(key)]
    return Plan(study, planner.scale, selected(rows, options, name), options, rows)


_READERS: dict[str, Callable[[Library, str, str], Any]] = {
    "datasets": Library.dataset,
    "schedules": Library.schedule,
    "backbones": Library.backbone,
    "classifiers": Library.classifier,
}


class _Planner:
    def __init__(
        self, name: str, study: Study, scale: str, library: Library, options: StudyOptions
    ) -> None:
        self.where = f"configs/studies/{name}.yaml"
        self.library, self.study = library, study
        self.scale_name, self.bare_scale = scale, library.scale(scale, "scale")
        _check_scale(self.bare_scale, library, f"configs/scales/{scale}.yaml")
        self.scale = stand_ins.adapted(self.bare_scale, study, library, self.where)
        self.options = options
        self.changes = parse_changes(options.schedule) if options.schedule else {}
        self.changes_place = f"schedule '{options.schedule}'"
        self.numbers = read_published(library, study, self.where)
        self.published = PublishedDetectors(library)
        self.published.check_scale(options.teachers, self.scale, scale)

    def table(self, key: str) -> list[Row]:
        """Return the rows of a table without duplicates of pairs that share teacher or student."""
        table, where = self.study.tables[key], f"{self.where}: table '{key}'"
        for changes in (table.settings, table.sweep):
            check_overrides(changes, table.methods, where)
        count = self.options.seeds or table.seeds or self.study.seeds
        seeds = range(table.first_seed, table.first_seed + count)
        paired = self.options.teacher_seeds or table.teacher_seeds or self.study.teacher_seeds
        rows: dict[tuple[Any, ...], Row] = {}
        for detector in table.detectors:
            check_student(detector, self.library, where)
            for schedule in table.schedules:
                for pair in table.pairs:
                    cell = TableCell(key, table, schedule, detector, pair, seeds, paired, where)
                    for row in self._rows(cell):
                        rows.setdefault(_identity(row), row)
        return list(rows.values())

    def _rows(self, cell: TableCell) -> Iterator[Row]:
        teaching = replace(cell, schedule=cell.pair.teacher_schedule or cell.schedule)
        teachers = self._teachers(teaching)
        baselines = {
            seed: self._alone(cell, cell.detector, cell.pair.student, seed) for seed in cell.seeds
        }
        if teachers:
            yield self._row(teaching, "teacher", teachers)
        baseline = self._row(cell, "baseline", baselines)
        yield baseline
        distilled = [*self._distilled_rows(cell, teachers, baseline)]
        yield from self._controls(cell, baseline, distilled)
        yield from distilled

    def _distilled_rows(
        self, cell: TableCell, teachers: dict[int, Run], baseline: Row
    ) -> Iterator[Row]:
        for method in cell.table.methods:
            for setting, settings in swept_settings(cell.table, method):
                runs = {
                    seed: self._distilled(cell, method, settings, teachers, seed)
                    for seed in cell.seeds
                }
                row = self._row(cell, method, runs, setting, baseline.published)
                yield replace(row, baselines=baseline.runs)

    def _controls(self, cell: TableCell, baseline: Row, distilled: Sequence[Row]) -> Iterator[Row]:
        """Yield the rows of the student alone that is trained as long as distilled ones."""
        alone = next(iter(baseline.runs.values()))
        taught = [next(iter(row.runs.values())) for row in distilled]
        for length in equal_times(cell.table, alone, taught, self.library, cell.where):
            schedule = lengthened(alone.schedule, length.epochs, self.library, cell.where)
            runs = {
                seed: self._composed(replace(run, schedule=schedule), {}, cell.where)
                for seed, run in baseline.runs.items()
            }
            setting = f"{length.epochs} epochs"
            yield replace(
                baseline,
                key=row_key(cell, "", "", cell.pair.student, CONTROL, setting),
                method=CONTROL,
                kind="control",
                runs=runs,
                baselines=baseline.runs,
                published={},
                setting=", ".join(filter(None, (baseline.setting, setting))),
                differs=self._changed(cell, alone),
                remark=length.describe(alone.composed.epochs),
                source="",
            )

    def _row(
        self,
        cell: TableCell,
        method: str,
        runs: dict[int, Run],
        setting: str = "",
        published_baseline: Mapping[str, float] = MappingProxyType({}),
    ) -> Row:
        kind: Kind = "distilled"
        teacher, student, classifier = "", cell.pair.student, ""
        run = next(iter(runs.values()))
        if method == "teacher":
            kind, teacher, student = "teacher", cell.pair.teacher or "", ""
        elif method == "baseline":
            kind = "baseline"
        else:
            classifier = self._classifier_name(cell) if run.classifier else ""
            teacher = (cell.pair.teacher or "") if run.teacher else classifier
        names = (cell.schedule, cell.detector, teacher, student, method, setting)
        line = find(self.numbers, cell.table.dataset, cell.table.published or "", names)
        voc = self.library.dataset(cell.table.dataset, cell.where).metric == "voc"
        metric = "VOC07" if voc else "AP"
        gain_baseline, of_gain = line.gain_baseline(metric, published_baseline)
        several = len(cell.table.schedules) > 1
        rate = self.published.other_rate(run.teacher or run, self.options.teachers)
        return Row(
            key=row_key(cell, teacher, classifier, student, method, setting),
            table=cell.key,
            schedule=cell.schedule,
            detector=cell.detector,
            teacher=teacher,
            student=student,
            method=method,
            kind=kind,
            metric=metric,
            runs=runs,
            baselines={},
            published=dict(line.metrics),
            published_baseline=dict(gain_baseline),
            setting=", ".join(filter(None, (cell.schedule if several else "", setting))),
            classifier=classifier,
            differs="; ".join(filter(None, (line.differs, self._changed(cell, run), rate))),
            remark="; ".join(filter(None, (line.note, of_gain))),
            source=line.source,
            split=self._split(cell, run),
        )

    def _split(self, cell: TableCell, run: Run) -> SplitName:
        """Return the split that a run of a cell is measured on, at this scale.

        UserError if the table asks for a validation split that its data set lacks.
        """
        table, where = cell.table, cell.where
        if table.split == "val" and self.library.dataset(table.dataset, where).val is None:
            raise UserError(
                f"{where}: key 'split' is val, but data set '{table.dataset}' has no 'val'; hold "
                f"one out with `kd split {table.dataset}`, or remove the key"
            )
        split = table.split or ("val" if table.sweep else "test")
        return self.library.dataset(run.dataset, where).early_split if split == "val" else "test"

    def _teachers(self, cell: TableCell) -> dict[int, Run]:
        """Return the teachers of a cell by seed; none without a teacher detector."""
        if cell.pair.teacher is None:
            return {}
        seeds = dict.fromkeys(map(cell.teacher_seed, cell.seeds))
        return {seed: self._teacher(cell, cell.pair.teacher, seed) for seed in seeds}

    def _teacher(self, cell: TableCell, backbone: str, seed: int) -> Run:
        detector, checkpoint = teacher_of(
            cell.pair, cell.detector, self.scale, self.library, cell.where
        )
        run = self._uncomposed(cell, detector, backbone, seed)
        if checkpoint is not None:  # weights that no change of a schedule changes
            schedule = self._stand_in("schedules", cell.schedule, cell.where)
            run = replace(run, schedule=schedule)
        else:
            checkpoint = self.published.equal(run, self.scale, self.options.teachers)
        if checkpoint is None:
            return self._composed(run, {}, cell.where)
        return imported_teacher(run, checkpoint, cell, self.scale, self.published)

    def _classifier_name(self, cell: TableCell) -> str:
        """Return the classifier of a pair or, without one, that of the detector's family."""
        family = self.library.detector(cell.detector, cell.where).augmentation
        name = cell.pair.classifier or cell.table.classifiers.get(family)
        if name is None:
            raise UserError(
                f"{cell.where}: key 'classifiers' has no classifier for '{family}', the family of "
                f"detector '{cell.detector}'; "
                f"{suggest(family, self.library.names('classifiers'))}"
            )
        key = "classifier" if cell.pair.classifier else "classifiers"
        classifier = self.library.classifier(name, f"{cell.where}: key '{key}'")
        if classifier.family != family:
            raise UserError(
                f"{cell.where}: key '{key}': '{name}' has family '{classifier.family}', but "
                f"detector '{cell.detector}' needs '{family}'; name another classifier"
            )
        return name

    def _classifier(self, cell: TableCell, seed: int) -> ClassifierRun:
        name = self._stand_in("classifiers", self._classifier_name(cell), cell.where)
        dataset = self._stand_in("datasets", cell.table.dataset, cell.where)
        return classifier_run(name, self.scale_name, dataset, seed, self.library, cell.where)

    def _alone(self, cell: TableCell, detector: str, backbone: str, seed: int) -> Run:
        return self._composed(self._uncomposed(cell, detector, backbone, seed), {}, cell.where)

    def _distilled(
        self,
        cell: TableCell,
        method: str,
        settings: dict[str, dict[str, Any]],
        by_seed: dict[int, Run],
        seed: int,
    ) -> Run:
        detector, pair, where = cell.detector, cell.pair, cell.where
        teacher_seed = cell.teacher_seed(seed)
        teacher = by_seed.get(teacher_seed)
        terms = resolve(method, settings, detector, self.library, where)
        schedules = cell.schedule, self._schedule(cell)
        terms = with_scaled_epochs(terms, settings, schedules, self.library, where)
        others = [pair.teacher_detector or detector, teacher.detector] if teacher else [None]
        for other in dict.fromkeys(others):
            check_readable(terms, detector, other, self.library, where)
        kinds = teachers(terms)
        if "detector" in kinds and teacher is None:
            raise UserError(
                f"{where}: method '{method}' learns from a detector, but the pair with student "
                f"'{pair.student}' has no key 'teacher'; add it"
            )
        run = replace(
            self._uncomposed(cell, detector, pair.student, seed),
            method=method,
            teacher=teacher if "detector" in kinds else None,
            classifier=self._classifier(cell, teacher_seed) if "classifier" in kinds else None,
        )
        return self._composed(run, terms, where)

    def _uncomposed(self, cell: TableCell, detector: str, backbone: str, seed: int) -> Run:
        where = cell.where
        check_detector(detector, self.bare_scale, self.scale_name, self.library, where)
        return Run(
            scale=self.scale_name,
            dataset=self._stand_in("datasets", cell.table.dataset, where),
            schedule=self._schedule(cell),
            detector=detector,
            student=self._stand_in("backbones", backbone, where),
            seed=seed,
        )

    def _schedule(self, cell: TableCell) -> str:
        """Return the name of the schedule of a cell, with the changes of the options."""
        name = self._stand_in("schedules", cell.schedule, cell.where)
        return self.library.changed_schedule(name, self.changes, self.changes_place)

    def _changed(self, cell: TableCell, run: Run) -> str:
        """Return how the schedule of a cell's run was changed, empty if it was not."""
        name = self._stand_in("schedules", cell.schedule, cell.where)
        if run.schedule == name:
            return ""
        schedules = (
            self.library.schedule(schedule, cell.where) for schedule in (name, run.schedule)
        )
        return f"schedule changed: {describe_changes(*schedules)}"

    def _stand_in(self, kind: stand_ins.Kind, name: str, where: str) -> str:
        """Return the stand-in of a part; UserError if the part does not exist."""
        _READERS[kind](self.library, name, where)
        return stand_ins.stand_in(kind, name, self.scale, self.scale_name, where)

    def _composed(self, run: Run, terms: dict[str, Any], where: str) -> Run:
        return replace(run, config=compose(run, terms, self.scale, self.library, where))


def _identity(row: Row) -> tuple[Any, ...]:
    """Return the names and runs by which two rows differ."""
    names = (row.schedule, row.detector, row.teacher, row.student, row.method, row.setting)
    return (*names, row.classifier, *(run.name for run in row.runs.values()))


def _check_scale(scale: Scale, library: Library, where: str) -> None:
    """Raise UserError if a scale names a part or a stand-in that does not exist."""
    for kind, read in _READERS.items():
        for name in chain(*getattr(scale, kind).items()):
            read(library, name, f"{where}: key '{kind}'")
    for detector, changes in scale.detectors.items():
        part = library.detector(detector, f"{where}: key 'detectors'")
        merge(part.model, changes, f"{where}: detectors.{detector}")
