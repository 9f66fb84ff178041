"""What the workflow asks of a plan: run directories, inputs by run, and data that must exist."""

from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from kd.errors import UserError
from kd.files import read_json
from kd.settings.base import Part
from kd.settings.classifiers import Crops
from kd.settings.compose import WEIGHTS
from kd.settings.datasets import CocoSplit, Dataset
from kd.settings.library import Library
from kd.settings.plan import Plan, plan
from kd.settings.run import RESULTS, Run


class Request(Part):
    """``configs/default.yaml`` and ``--config``: which study to run, and how."""

    study: str
    scale: str
    seeds: PositiveInt | None
    tables: list[str] | None
    threads: PositiveInt
    workers: NonNegativeInt


class Workflow:
    """A request, its plan, and what each rule needs to know of them."""

    published = ("table.md", "table.csv", "table.tex", "gains.pdf", "gains.png")

    def __init__(self, request: Request, library: Library) -> None:
        self.asked, self.library = request, library
        self.plan: Plan = plan(request.study, request.scale, library, request.seeds, request.tables)
        self.runs: dict[str, Run] = self.plan.runs

    @classmethod
    def read(cls, config: dict[str, Any]) -> "Workflow":
        """Plan what Snakemake's ``config`` asks for; UserError on anything that could not run."""
        values = dict(config)
        if isinstance(values.get("tables"), str):
            values["tables"] = values["tables"].split(",")
        return cls(Request.parse(values, "configs/default.yaml and --config"), Library())

    @property
    def tables(self) -> str:
        """The folder of the study's tables at this scale."""
        return str(RESULTS / "tables" / self.asked.study / self.asked.scale)

    @property
    def request(self) -> list[str]:
        """The request as arguments of ``kd table``."""
        seeds = ["--seeds", str(self.asked.seeds)] if self.asked.seeds else []
        tables = ["--tables", *self.asked.tables] if self.asked.tables else []
        return [self.asked.study, "--scale", self.asked.scale, *seeds, *tables]

    @property
    def titles(self) -> dict[str, str]:
        """What a table prints beside results; a new title makes a new table and no new run."""
        study = self.plan.study
        return {"": study.title} | {key: table.title for key, table in study.tables.items()}

    @property
    def published_numbers(self) -> list[str]:
        name = self.plan.study.published
        return [str(self.library.root / "published" / name)] if name else []

    def teacher_weights(self, run: str) -> list[str]:
        """Return the weights that a run learns from, if any."""
        identity = self._identity(run)
        folders = {"runs": identity["teacher"], "classifiers": identity["classifier"]}
        return [str(RESULTS / kind / name / WEIGHTS) for kind, name in folders.items() if name]

    def dataset_of(self, run: str) -> str:
        return self._identity(run)["dataset"]

    def dataset_entry(self, dataset: str) -> dict[str, Any]:
        """Return what a check depends on: the entry's content, not its file."""
        return self._dataset(dataset).model_dump(mode="json", exclude={"fetch", "metric"})

    def generator_settings(self, dataset: str) -> dict[str, Any]:
        generate = self._dataset(dataset).generate
        return generate.model_dump() if generate else {}

    def annotation_files(self, dataset: str) -> list[str]:
        """Return the files whose change means that a data set must be checked anew.

        Absent ones are left to ``require_data``, so that a plan can be made without the data.
        """
        entry = self._dataset(dataset)
        if entry.generate:
            return [f"{entry.root}/generated.json"]
        return [str(path) for path in _listings(entry) if path.exists()]

    def crops_of(self, classifier: str) -> list[str]:
        """Return the crops that a classifier learns from, planned or composed by hand."""
        planned = self.plan.classifiers.get(classifier)
        crops = planned.crops if planned else Crops.read(RESULTS / "classifiers" / classifier)
        return [str(crops.directory / f"{split}.json") for split in ("train", "test")]

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

    def _identity(self, run: str) -> dict[str, Any]:
        """Return a run's parts: from the plan or, where a job outlives it, from its folder."""
        planned = self.runs.get(run)
        if planned:
            return planned.identity
        path = RESULTS / "runs" / run / "run.json"
        if not path.exists():
            raise UserError(f"results/runs/{run}: not a run of study '{self.asked.study}'")
        return read_json(path)


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
