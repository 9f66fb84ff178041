"""Plans of a workflow's studies, and the paths, inputs and resources that its rules use."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.common.files import write_json
from kd.common.results import RESULTS, VALIDATION, results_folder
from kd.config import schedules
from kd.config.compose import WEIGHTS
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import ClassifierRun, Run, RunKind, read_classifier_run, read_run, study_folder
from kd.config.selection import StudyOptions
from kd.data.builtin.shapes import MARKER
from kd.data.entry import Dataset
from kd.data.fingerprint import content_of
from kd.resources.requests import ResourceRequest, ResourceRequests
from kd.training.tracking.names import check_trackers
from kd.workflow.options import LAST_OPTIONS, WorkflowOptions, study_arguments


@dataclass(frozen=True)
class Publication:
    """A study of the workflow: its plan and the files that publish its results."""

    study: str
    plan: Plan
    options: WorkflowOptions
    library: Library

    @property
    def folder(self) -> Path:
        """The folder of the study's tables at this scale."""
        return study_folder(self.study, self.options.scale)

    @property
    def files(self) -> list[str]:
        """The published files: all tables in one file per format, the gains of each table, claims.

        Only a study with published numbers has claims.
        """
        tables = dict.fromkeys(row.table for row in self.plan.rows)
        gains = [f"gains/{table}.{suffix}" for table in tables for suffix in ("pdf", "png")]
        claims = ["claims.md"] if self.plan.study.published else []
        names = ("table.md", "table.csv", "table.tex", *claims, *gains)
        return [str(self.folder / name) for name in names]

    @property
    def validation_results(self) -> list[str]:
        """The results on validation splits of the runs in rows that are measured on them."""
        rows = [row for row in self.plan.rows if row.split == VALIDATION]
        runs = [run for row in rows for run in (*row.runs.values(), *row.baselines.values())]
        folders = dict.fromkeys(results_folder(run.directory, VALIDATION) for run in runs)
        files = ("metrics.json", "resampled.npz")
        return [str(folder / name) for folder in folders for name in files]

    @property
    def arguments(self) -> list[str]:
        """The study as arguments of ``kd table`` and ``kd report``."""
        return study_arguments(self.study, self.options.scale, self.options)

    @property
    def titles(self) -> dict[str, str]:
        """The titles that tables print; a new title makes a new table and no new run."""
        study = self.plan.study
        return {"": study.title} | {key: table.title for key, table in study.tables.items()}

    @property
    def published_numbers(self) -> list[str]:
        """The file of the study's published numbers, if it has one."""
        name = self.plan.study.published
        return [str(self.library.root / "published" / name)] if name else []


class Workflow:
    """Options of a workflow and the plans of its studies, with the inputs and resources of rules.

    Studies may share runs; a shared run is trained once.
    """

    def __init__(self, options: WorkflowOptions, library: Library) -> None:
        self.options, self.library = options, library
        self.publications = [
            Publication(
                name,
                plan(name, options.scale, library, options),
                options,
                library,
            )
            for name in options.study_names(library)
        ]
        plans = [publication.plan for publication in self.publications]
        self.runs: dict[str, Run] = _merged(planned.runs for planned in plans)
        self.classifiers: dict[str, ClassifierRun] = _merged(p.classifiers for p in plans)
        for name in self.generated:
            root = self._dataset(name).root
            if Path(root) != Path("data", name):
                raise UserError(
                    f"configs/datasets/{name}.yaml: key 'root' is {root}; the workflow writes a "
                    f"generated data set to data/{name}"
                )
        self.requests = ResourceRequests(options, plans[0].scale, library)
        self.requests.check([*self.classifiers.values(), *self.runs.values()])
        self._data_contents: dict[str, str] = {}

    @classmethod
    def read(cls, config: dict[str, Any]) -> "Workflow":
        """Plan the studies of Snakemake's ``config``; UserError on anything that could not run."""
        where = "configs/default.yaml and --config"
        for key in config:
            if key in schedules.KEYS:
                raise UserError(
                    f"{where}: '{key}' is a key of schedules; change it with schedule={key}=VALUE, "
                    "with commas between several changes"
                )
        options = WorkflowOptions.parse(config, where)
        check_trackers(options.trackers or [], f"'trackers' of {where}")
        return cls(options, Library())

    def add(self, runs: Iterable[Run]) -> None:
        """Add the runs of figures that are in no table: trainings stopped after an epoch."""
        for run in runs:
            if run.name not in self.runs:
                self.requests.check([run])
                self.runs[run.name] = run

    def write_options(self) -> None:
        """Write the studies, their scale and their selection for ``kd status``."""
        keys = {"study", "scale", *StudyOptions.model_fields}
        write_json(LAST_OPTIONS, self.options.model_dump(include=keys))

    def rule(self, kind: str, publication: Publication, name: str = "") -> str:
        """Return the name of a study's rule, which contains the study if there are several."""
        study = publication.study if len(self.publications) > 1 else ""
        return "_".join(filter(None, (kind, study, name)))

    @property
    def cpu_threads(self) -> int:
        """CPU threads of a process: the requested number, at most those it may use."""
        return min(self.requests.threads, len(os.sched_getaffinity(0)))

    @property
    def tracking(self) -> str:
        """Options of ``kd train`` that name trackers and tag runs with the workflow's studies."""
        names = ",".join(self.options.trackers or [])
        studies = ",".join(publication.study for publication in self.publications)
        return f"--trackers {names} --tag study={studies}" if names else ""

    def training(self, run: str) -> ResourceRequest:
        return self.requests.training(self._run(run))

    def teacher_cache(self, run: str) -> int:
        """Return the MB of teacher outputs that each process of a training caches."""
        return self.requests.teacher_cache(self._run(run))

    def prediction(self, run: str) -> ResourceRequest:
        return self.requests.prediction(self._run(run))

    def classifier_training(self, classifier: str) -> ResourceRequest:
        return self.requests.training(self._classifier(classifier))

    def classifier_prediction(self, classifier: str) -> ResourceRequest:
        return self.requests.prediction(self._classifier(classifier))

    def teacher_weights(self, run: str) -> list[str]:
        """Return the weights of a run's teachers; none for a run without a method."""
        student = self._run(run)
        teachers = (student.teacher, student.classifier)
        return [str(teacher.directory / WEIGHTS) for teacher in teachers if teacher]

    def dataset_of(self, run: str) -> str:
        return self._run(run).dataset

    def dataset_entry(self, dataset: str) -> dict[str, Any]:
        """Return the keys of an entry that its check depends on."""
        return self._dataset(dataset).model_dump(mode="json", exclude={"fetch", "metric"})

    def generator_settings(self, dataset: str) -> dict[str, Any]:
        generate = self._dataset(dataset).generate
        return generate.model_dump() if generate else {}

    def generated_data(self, dataset: str) -> list[str]:
        """Return the file that marks a generated data set as complete; none for another one."""
        entry = self._dataset(dataset)
        return [f"{entry.root}/{MARKER}"] if entry.generate else []

    def data_content(self, dataset: str) -> str:
        """Return a text that changes whenever the content of a data set does."""
        if dataset not in self._data_contents:
            self._data_contents[dataset] = content_of(dataset, self._dataset(dataset))
        return self._data_contents[dataset]

    def crops_of(self, classifier: str) -> list[str]:
        """Return the files of the crops that a classifier is trained on."""
        crops = self._classifier(classifier).crops
        return [str(crops.directory / f"{split}.json") for split in ("train", "test")]

    def is_present(self, dataset: str) -> bool:
        """Return True if a data set is on this machine, so rehearsals need no stand-in."""
        return self._dataset(dataset).is_present()

    @property
    def datasets(self) -> list[str]:
        """The data sets of all runs."""
        return sorted({run.dataset for run in self.runs.values()})

    @property
    def generated(self) -> list[str]:
        """The data sets of the runs that the workflow generates."""
        return [name for name in self.datasets if self._dataset(name).generate]

    def require_data(self) -> None:
        """Raise UserError for the first data set that is not on this machine."""
        from kd.data.readers import read_split

        for name in self.datasets:
            entry = self._dataset(name)
            if not entry.is_present():
                for split in entry.splits:
                    read_split(entry, split)

    def _dataset(self, name: str) -> Dataset:
        return self.library.dataset(name, "the workflow")

    def _run(self, name: str) -> Run:
        """Return a run of the plan, or of its directory if its job outlives the plan."""
        planned = self.runs.get(name)
        return planned or read_run(self._directory("runs", name))

    def _classifier(self, name: str) -> ClassifierRun:
        """Return a classifier's run, planned or composed by ``kd classifier``."""
        planned = self.classifiers.get(name)
        return planned or read_classifier_run(self._directory("classifiers", name))

    def _directory(self, kind: str, name: str) -> Path:
        directory = RESULTS / kind / name
        if not (directory / "run.json").exists():
            raise UserError(f"{directory}: not a run of study '{self.options.study}'")
        return directory


def _merged(plans: Iterable[dict[str, RunKind]]) -> dict[str, RunKind]:
    """Return the runs of all plans by name, in the order of the studies."""
    runs: dict[str, RunKind] = {}
    for planned in plans:
        for name, run in planned.items():
            runs.setdefault(name, run)
    return runs
