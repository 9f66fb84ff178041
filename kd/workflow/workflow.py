"""What the workflow asks of a plan: run directories, inputs by run, and data that must exist."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, NonNegativeInt, PositiveInt

from kd.common.errors import UserError
from kd.common.files import write_json
from kd.common.results import RESULTS
from kd.config.compose import WEIGHTS
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import ClassifierRun, Run, study_folder
from kd.data.builtin.shapes import MARKER
from kd.data.entry import CocoSplit, Dataset
from kd.data.fingerprint import content_of
from kd.resources.requests import Demand, Demands, Site
from kd.resources.throughput import read_classifier, read_run

STUDIES = "studies"
"""The folder of ``configs`` that has them."""
EVERY = "all"
"""The name that stands for all of them."""
ASKED = RESULTS / "workflow.json"
"""The studies, scale, seeds and tables of the workflow that began last."""
Planned = TypeVar("Planned", Run, ClassifierRun)


class Request(Site):
    """``configs/default.yaml`` and ``--config``: which studies to run, and on what."""

    study: str
    """Its name, several with commas between, or ``all``."""
    scale: str
    seeds: PositiveInt | None
    tables: Annotated[list[str], Field(min_length=1)] | None
    val_interval: NonNegativeInt = 1

    def studies(self, library: Library) -> list[str]:
        """Return the names of the studies, each once; UserError where tables are of several."""
        listed = library.names(STUDIES) if self.study == EVERY else self.study.split(",")
        found = list(dict.fromkeys(listed))
        if self.tables and len(found) > 1:
            raise UserError(
                f"'tables' of configs/default.yaml and --config are of one study, and 'study' "
                f"names {len(found)}: {', '.join(found)}"
            )
        return found


@dataclass(frozen=True)
class Publication:
    """A study: its plan, and what publishes what was measured."""

    study: str
    plan: Plan
    asked: Request
    library: Library

    @property
    def folder(self) -> Path:
        """The folder of the study's tables at this scale."""
        return study_folder(self.study, self.asked.scale)

    @property
    def files(self) -> list[str]:
        """What publishing writes: all tables in one, the gains of each."""
        tables = dict.fromkeys(row.table for row in self.plan.rows)
        gains = [f"gains/{table}.{suffix}" for table in tables for suffix in ("pdf", "png")]
        return [str(self.folder / name) for name in ("table.md", "table.csv", "table.tex", *gains)]

    @property
    def request(self) -> list[str]:
        """The study as arguments of ``kd table`` and ``kd report``."""
        seeds = ["--seeds", str(self.asked.seeds)] if self.asked.seeds else []
        tables = ["--tables", *self.asked.tables] if self.asked.tables else []
        return [self.study, "--scale", self.asked.scale, *seeds, *tables]

    @property
    def titles(self) -> dict[str, str]:
        """What a table prints beside results; a new title makes a new table and no new run."""
        study = self.plan.study
        return {"": study.title} | {key: table.title for key, table in study.tables.items()}

    @property
    def published_numbers(self) -> list[str]:
        name = self.plan.study.published
        return [str(self.library.root / "published" / name)] if name else []


class Workflow:
    """A request, the plans of its studies, and what each rule needs to know of them.

    Runs that studies share are one.
    """

    def __init__(self, request: Request, library: Library) -> None:
        self.asked, self.library = request, library
        self.publications = [
            Publication(
                name,
                plan(name, request.scale, library, request.seeds, request.tables),
                request,
                library,
            )
            for name in request.studies(library)
        ]
        plans = [each.plan for each in self.publications]
        self.runs: dict[str, Run] = _joined(made.runs for made in plans)
        self.classifiers: dict[str, ClassifierRun] = _joined(made.classifiers for made in plans)
        for name in self.generated:
            if Path(self._dataset(name).root) != Path("data", name):
                raise UserError(
                    f"configs/datasets/{name}.yaml: key 'root' is {self._dataset(name).root}; the "
                    f"workflow draws a generated data set at data/{name}"
                )
        self.demands = Demands(request, plans[0].scale, library)
        self.demands.check([*self.classifiers.values(), *self.runs.values()])
        self._contents: dict[str, str] = {}

    def remember(self) -> None:
        """Write down what this workflow is asked for, for ``kd status``."""
        write_json(ASKED, self.asked.model_dump(include={"study", "scale", "seeds", "tables"}))

    @classmethod
    def read(cls, config: dict[str, Any]) -> "Workflow":
        """Plan what Snakemake's ``config`` asks for; UserError on anything that could not run."""
        values = dict(config)
        if isinstance(values.get("tables"), str):
            values["tables"] = values["tables"].split(",")
        return cls(Request.parse(values, "configs/default.yaml and --config"), Library())

    def rule(self, kind: str, publication: Publication, name: str = "") -> str:
        """Return what a study's own rule is called; the study is in it where there are several."""
        study = publication.study if len(self.publications) > 1 else ""
        return "_".join(filter(None, (kind, study, name)))

    @property
    def cpu_threads(self) -> int:
        """CPU threads of a process: what was asked for, within what this process may use."""
        return min(self.demands.threads, len(os.sched_getaffinity(0)))

    @property
    def workers(self) -> int:
        """Data loading processes of a process."""
        return self.demands.workers

    def training(self, run: str) -> Demand:
        """Return what the training of a run asks for."""
        return self.demands.training(self._run(run))

    def teacher_cache(self, run: str) -> int:
        """Return how many MB each process of a training keeps of its teacher's outputs."""
        return self.demands.teacher_cache(self._run(run))

    def prediction(self, run: str) -> Demand:
        return self.demands.prediction(self._run(run))

    def classifier_training(self, classifier: str) -> Demand:
        return self.demands.training(self._classifier(classifier))

    def classifier_prediction(self, classifier: str) -> Demand:
        return self.demands.prediction(self._classifier(classifier))

    def crops(self, dataset: str) -> Demand:
        return self.demands.crops(dataset)

    def teacher_weights(self, run: str) -> list[str]:
        """Return the weights that a run learns from, if any."""
        found = self._run(run)
        teachers = (found.teacher, found.classifier)
        return [str(teacher.directory / WEIGHTS) for teacher in teachers if teacher]

    def dataset_of(self, run: str) -> str:
        return self._run(run).dataset

    def dataset_entry(self, dataset: str) -> dict[str, Any]:
        """Return what a check depends on: the entry's content, not its file."""
        return self._dataset(dataset).model_dump(mode="json", exclude={"fetch", "metric"})

    def generator_settings(self, dataset: str) -> dict[str, Any]:
        generate = self._dataset(dataset).generate
        return generate.model_dump() if generate else {}

    def generated_data(self, dataset: str) -> list[str]:
        """Return the file that is there once a built-in data set is drawn; none of another."""
        entry = self._dataset(dataset)
        return [f"{entry.root}/{MARKER}"] if entry.generate else []

    def data_content(self, dataset: str) -> str:
        """Return a text that changes whenever the content of a data set does."""
        if dataset not in self._contents:
            self._contents[dataset] = content_of(dataset, self._dataset(dataset))
        return self._contents[dataset]

    def crops_of(self, classifier: str) -> list[str]:
        """Return the crops that a classifier learns from."""
        crops = self._classifier(classifier).crops
        return [str(crops.directory / f"{split}.json") for split in ("train", "test")]

    @property
    def generated(self) -> list[str]:
        """The data sets of the plan that the workflow draws itself."""
        names = sorted({run.dataset for run in self.runs.values()})
        return [name for name in names if self._dataset(name).generate]

    def require_data(self) -> None:
        """Raise UserError for the first data set of the plan that is not on this machine."""
        from kd.data.readers import read_split

        for name in sorted({run.dataset for run in self.runs.values()}):
            entry = self._dataset(name)
            if entry.generate is None and not all(path.exists() for path in _listings(entry)):
                read_split(entry, "train")
                read_split(entry, "test")

    def _dataset(self, name: str) -> Dataset:
        return self.library.dataset(name, "the workflow")

    def _run(self, name: str) -> Run:
        """Return a run of the plan or, where a job outlives it, of its folder."""
        planned = self.runs.get(name)
        return planned or read_run(self._folder("runs", name))

    def _classifier(self, name: str) -> ClassifierRun:
        """Return a classifier's run, planned or composed by hand."""
        planned = self.classifiers.get(name)
        return planned or read_classifier(self._folder("classifiers", name))

    def _folder(self, kind: str, name: str) -> Path:
        folder = RESULTS / kind / name
        if not (folder / "run.json").exists():
            raise UserError(f"{folder}: not a run of study '{self.asked.study}'")
        return folder


def _joined(parts: Iterable[dict[str, Planned]]) -> dict[str, Planned]:
    """Return all that is planned by name, in the order of the studies."""
    found: dict[str, Planned] = {}
    for part in parts:
        for name, each in part.items():
            found.setdefault(name, each)
    return found


def _listings(entry: Dataset) -> list[Path]:
    """Return the annotation files (COCO) or image-set lists (VOC) of both splits."""
    paths = []
    for split in (entry.train, entry.test):
        if isinstance(split, CocoSplit):
            paths.append(Path(entry.root) / split.annotations)
        else:
            names = [Path(entry.root) / name for name in split]
            paths += [path.parent / "ImageSets" / "Main" / f"{path.name}.txt" for path in names]
    return paths
