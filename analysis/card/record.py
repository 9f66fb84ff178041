"""The files of a run that its model card is written from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.runs.titles import backbone_name, method_name
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.results import RESULTS, require_result
from kd.config.composed import ComposedConfig
from kd.config.library import Library
from kd.data.entry import Dataset
from kd.records import inputs
from kd.records.model_size import ModelSize, read_size


@dataclass(frozen=True)
class CardRecord:
    """A trained and evaluated run of a detector, as its directory describes it."""

    directory: Path
    library: Library
    parts: dict[str, Any]
    """Names of the run's parts, of ``run.json``."""
    config: ComposedConfig
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    check: dict[str, Any] = field(default_factory=dict)
    """Report of the check of the data set; empty without one."""

    @classmethod
    def read(cls, directory: Path, library: Library) -> "CardRecord":
        """Read a run; UserError if it is no detector's, or is not trained and evaluated."""
        config = ComposedConfig.read(directory)
        if config.kind == "classifier":
            raise UserError(f"{directory}: a classifier; model cards describe detectors")
        for name in ("weights.pth", "provenance.json", "metrics.json"):
            require_result(directory / name)
        if problem := inputs.outdated_results(directory):
            raise UserError(problem)
        parts = read_json(directory / "run.json")
        check = RESULTS / "checks" / f"{parts['dataset']}.json"
        return cls(
            directory,
            library,
            parts,
            config,
            read_json(directory / "provenance.json"),
            read_json(directory / "metrics.json"),
            read_json(check) if check.exists() else {},
        )

    @property
    def name(self) -> str:
        return shown_path(self.directory)

    @property
    def distilled(self) -> bool:
        return bool(self.parts.get("method"))

    @property
    def teacher(self) -> Path | None:
        """The directory of the detector that taught."""
        path = self.config.teacher_checkpoints.get("teacher")
        return path.parent if path else None

    @property
    def dataset(self) -> Dataset | None:
        """The entry of the data set; None if it no longer exists."""
        try:
            return self.library.dataset(self.parts["dataset"], "model card")
        except UserError:
            return None

    @property
    def classes(self) -> list[str]:
        return self.config.class_names

    @property
    def metric(self) -> str:
        """The main metric, as in tables."""
        return "VOC07" if self.dataset and self.dataset.metric == "voc" else "AP"

    @property
    def size(self) -> ModelSize | None:
        return read_size(self.directory)

    def counts(self, split: str) -> dict[str, Any]:
        """Return the counts of a split; empty without a report of the check."""
        return self.check.get("splits", {}).get(split, {})

    # --- Printed names -----------------------------------------------------------------------

    @property
    def detector_title(self) -> str:
        name = self.parts["detector"]
        return _title(lambda: self.library.detector(name, "model card").title, name)

    @property
    def backbone_title(self) -> str:
        return _title(lambda: backbone_name(self.parts["student"], self.library), "")

    @property
    def method_title(self) -> str:
        """The methods by name; empty for a run without one."""
        name = self.parts.get("method") or ""
        return _title(lambda: method_name(name, self.library), name) if name else ""

    @property
    def title(self) -> str:
        """The detector, its backbone, method and data in one line."""
        by = f", distilled with {self.method_title}" if self.distilled else ""
        network = " ".join(filter(None, [self.detector_title, self.backbone_title]))
        return f"{network}{by}, trained on {self.parts['dataset']}"


def shown_path(path: Path) -> str:
    """Return a path below ``results``, or its last part elsewhere: cards show no other folder."""
    root = RESULTS.resolve()
    inside = path.resolve().is_relative_to(root)
    return path.resolve().relative_to(root).as_posix() if inside else path.name


def _title(read: Callable[[], str], name: str) -> str:
    """Return a title, or the name of a part whose file no longer exists."""
    try:
        return read()
    except UserError:
        return name
