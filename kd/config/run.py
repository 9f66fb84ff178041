"""A run and its directory."""

import hashlib
import json
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.common.results import RESULTS
from kd.config.canonical import canonical_form
from kd.config.composed import ComposedConfig, read_config

FOLDERS = ("runs", "classifiers", "crops", "checks", "benchmarks", "teacher_outputs")
"""What lies in ``results`` beside the folders of studies."""


class Composed:
    """Something trained from a composed configuration, in a directory named after it."""

    folder: ClassVar[str]
    """Where its kind lies below ``results``."""
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is, spelled out; it ends in ``digest``."""
        raise NotImplementedError

    @property
    def identity(self) -> dict[str, Any]:
        """Its parts by name."""
        raise NotImplementedError

    @property
    def directory(self) -> Path:
        return RESULTS / self.folder / self.name

    @property
    def composed(self) -> ComposedConfig:
        """A typed view of the configuration."""
        return ComposedConfig(self.config)

    @cached_property
    def digest(self) -> str:
        """Eight hex digits of the SHA-256 of the configuration's canonical form."""
        return digest_of(canonical_form(self.config))

    @cached_property
    def seedless_digest(self) -> str:
        """The digest without any seed: equal for the runs of one setting."""
        return digest_of(seedless(canonical_form(self.config)))

    def __eq__(self, other: object) -> bool:
        """Compare name and configuration: parts of equal names may be composed differently."""
        if not isinstance(other, Composed):
            return NotImplemented
        return self.name == other.name and self.config == other.config

    def __hash__(self) -> int:
        return hash(self.name)

    def write(self) -> None:
        """Write ``run.json`` (what it is) and ``config.json`` (what it consists of), once.

        The directory ends in the configuration's digest, so files that exist are right. A
        ``config.json`` of an earlier version, with mmdet's class names, is replaced.
        """
        path = self.directory / "config.json"
        if not path.exists():
            write_json(self.directory / "run.json", self.identity)
            write_json(path, self.config)
        elif (config := read_json(path)) != self.config and _same_run(config, self.config):
            write_json(path, self.config)


def study_folder(study: str, scale: str) -> Path:
    """Return the folder of what a study's readers look at: tables, figures, report."""
    return RESULTS / study / scale


@dataclass(frozen=True)
class Crops:
    """A classification data set: the objects of a detection data set, cut out.

    ``settings``: all that the crops depend on but for the data itself.
    """

    settings: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> "Crops":
        """Return the crops of a folder of crops, or those that a classifier's run learns from."""
        path = directory / "crops.json"
        found = read_json(path) if path.exists() else read_config(directory).get("crops")
        if not isinstance(found, dict) or not {"dataset", "margin", "min_side"} <= found.keys():
            raise UserError(f"{directory}: neither crops nor a classifier's run")
        return cls(found)

    @property
    def name(self) -> str:
        return f"{self.settings['dataset']}-{digest_of(self.settings)}"

    @property
    def directory(self) -> Path:
        return RESULTS / "crops" / self.name

    def write(self) -> None:
        """Write ``crops.json``, from which ``kd crops`` makes the rest, once."""
        path = self.directory / "crops.json"
        if not path.exists():
            write_json(path, self.settings)


@dataclass(frozen=True, eq=False)
class ClassifierRun(Composed):
    """One training of a classifier: its parts by name and its composed configuration."""

    folder = "classifiers"

    scale: str
    dataset: str
    schedule: str
    classifier: str
    seed: int
    config: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def model(self) -> str:
        return f"classifier-{self.classifier}"

    @property
    def name(self) -> str:
        """The run spelled out; it ends in a digest of what the run consists of."""
        parts = (self.scale, self.dataset, self.schedule, self.classifier)
        return "/".join((*parts, f"seed{self.seed}-{self.digest}"))

    @property
    def identity(self) -> dict[str, Any]:
        """The run's parts by name."""
        names = ("scale", "dataset", "schedule", "classifier", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def crops(self) -> Crops:
        """What it learns from."""
        return Crops(self.config["crops"])

    def write(self) -> None:
        """Write the run's files and those of its crops, once."""
        super().write()
        self.crops.write()


@dataclass(frozen=True, eq=False)
class Run(Composed):
    """One training: its parts by name, its composed configuration, and the run that teaches it."""

    folder = "runs"

    scale: str
    dataset: str
    schedule: str
    detector: str
    student: str
    seed: int
    method: str | None = None
    teacher: "Run | None" = None
    classifier: ClassifierRun | None = None
    config: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def model(self) -> str:
        return f"{self.detector}-{self.student}"

    @property
    def name(self) -> str:
        """The run spelled out; it ends in a digest of what the run consists of."""
        teachers = "+".join(each.model for each in (self.teacher, self.classifier) if each)
        training = (self.method or "alone") + (f"_from_{teachers}" if teachers else "")
        parts = (self.scale, self.dataset, self.schedule, self.model, training)
        return "/".join((*parts, f"seed{self.seed}-{self.digest}"))

    @property
    def identity(self) -> dict[str, Any]:
        """The run's parts by name."""
        names = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("teacher", "classifier", "config")
        }
        teachers = {"teacher": self.teacher, "classifier": self.classifier}
        return names | {kind: each.name if each else None for kind, each in teachers.items()}


def digest_of(settings: Any) -> str:
    """Return eight hex digits of the SHA-256 of settings that are plain data."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def seedless(settings: Any) -> Any:
    """Return settings without the key ``seed``, however deep it lies."""
    if isinstance(settings, dict):
        return {key: seedless(value) for key, value in settings.items() if key != "seed"}
    return [seedless(value) for value in settings] if isinstance(settings, list) else settings


def _same_run(config: Any, other: dict[str, Any]) -> bool:
    """Return True if two configurations differ in class names and observers alone."""
    return isinstance(config, dict) and canonical_form(config) == canonical_form(other)
