"""Runs: their parts by name, their composed configuration and their directory."""

import hashlib
import json
import re
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from kd.common.errors import UserError
from kd.common.files import read_json, write_json, write_text
from kd.common.results import RESULTS
from kd.config.canonical import canonical_form
from kd.config.composed import MMDET_CONFIG, ComposedConfig, mmdet_config_text, read_config

FOLDERS = (
    *("analyses", "benchmarks", "checks", "classifiers", "crops", "rehearsals", "runs"),
    "teacher_outputs",
)
"""Folders of ``results`` that are not folders of studies."""
CROPS = "crops.json"
"""File with the settings of a folder of crops."""
SEED_AND_DIGEST = re.compile(r"\bseed\d+-[0-9a-f]{8}\b")
"""Pattern of the last part of a run's name."""


class BaseRun:
    """A training of a composed configuration, in a directory that is named after it."""

    folder: ClassVar[str]
    """Folder of ``results`` that holds the runs of this class."""
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """The names of the run's parts and its seed, with ``digest`` at the end."""
        raise NotImplementedError

    @property
    def identity(self) -> dict[str, Any]:
        """The run's parts and teachers by name, as ``run.json`` holds them."""
        names = (part.name for part in fields(self) if part.name != "config")  # type: ignore[arg-type]
        parts = {name: getattr(self, name) for name in names}
        return {
            name: part.name if isinstance(part, BaseRun) else part for name, part in parts.items()
        }

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
        """The digest without any seed, equal for all runs of one setting."""
        return digest_of(seedless(canonical_form(self.config)))

    def __eq__(self, other: object) -> bool:
        """Compare name and configuration: parts of equal names may be composed differently."""
        if not isinstance(other, BaseRun):
            return NotImplemented
        return self.name == other.name and self.config == other.config

    def __hash__(self) -> int:
        return hash(self.name)

    def write(self) -> None:
        """Write ``run.json`` (the parts by name) and ``config.json``, unless they exist.

        The directory's name ends in the configuration's digest, so existing files are up to date.
        A ``config.json`` of an earlier version, with mmdet's class names, is replaced.
        """
        self.write_to(self.directory)

    def write_to(self, directory: Path) -> None:
        """Write ``run.json`` and ``config.json`` to a directory, as ``write`` does."""
        path = directory / "config.json"
        if not path.exists():
            write_json(directory / "run.json", self.identity)
            write_json(path, self.config)
        elif (config := read_json(path)) != self.config and _same_run(config, self.config):
            write_json(path, self.config)


@dataclass(frozen=True)
class Crops:
    """A classification data set: crops of the objects of a detection data set.

    ``settings``: everything that the crops depend on, except the data.
    """

    settings: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> "Crops":
        """Return the crops of a folder of crops or of a classifier's run."""
        path = directory / CROPS
        settings = read_json(path) if path.exists() else ComposedConfig.read(directory).crops
        keys = {"dataset", "margin", "min_side"}
        if not isinstance(settings, dict) or not keys <= settings.keys():
            raise UserError(f"{directory}: contains neither crops nor a run of a classifier")
        return cls(settings)

    @property
    def name(self) -> str:
        return f"{self.settings['dataset']}-{digest_of(self.settings)}"

    @property
    def directory(self) -> Path:
        return RESULTS / "crops" / self.name

    def write(self) -> None:
        """Write ``crops.json``, from which ``kd crops`` cuts the crops, unless it exists."""
        path = self.directory / CROPS
        if not path.exists():
            write_json(path, self.settings)


@dataclass(frozen=True, eq=False)
class ClassifierRun(BaseRun):
    """A training of a classifier: its parts by name and its composed configuration."""

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

    @cached_property
    def name(self) -> str:
        parts = (self.scale, self.dataset, self.schedule, self.classifier)
        return "/".join((*parts, f"seed{self.seed}-{self.digest}"))

    @property
    def crops(self) -> Crops:
        """The crops that the classifier is trained and tested on."""
        return Crops(self.config["crops"])

    def write(self) -> None:
        """Write the run's files and those of its crops, unless they exist."""
        super().write()
        self.crops.write()


@dataclass(frozen=True, eq=False)
class Run(BaseRun):
    """A training of a detector: its parts by name, its configuration and its teachers' runs."""

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

    @cached_property
    def name(self) -> str:
        teachers = "+".join(run.model for run in (self.teacher, self.classifier) if run)
        training = (self.method or "alone") + (f"_from_{teachers}" if teachers else "")
        parts = (self.scale, self.dataset, self.schedule, self.model, training)
        return "/".join((*parts, f"seed{self.seed}-{self.digest}"))

    def write(self) -> None:
        """Write the run's files and ``mmdet_config.py``, unless they exist."""
        super().write()
        path = self.directory / MMDET_CONFIG
        if not path.exists():
            write_text(path, mmdet_config_text(self.config))


def stopped(run: Run, epoch: int) -> Run:
    """Return the run that ends after an epoch of another run's training, with its learning rates.

    It equals the run of the schedule with ``stop_epoch``. On one machine its weights are those that
    the whole training has after the epoch.
    """
    train_cfg = {**run.config["train_cfg"], "stop_epoch": epoch}
    return replace(
        run,
        schedule=f"{run.schedule}-stop_epoch{epoch}",
        config={**run.config, "train_cfg": train_cfg},
    )


AnyRun = Run | ClassifierRun
RunKind = TypeVar("RunKind", Run, ClassifierRun)


def study_folder(study: str, scale: str) -> Path:
    """Return the folder of a study's tables, figures and report."""
    return RESULTS / study / scale


def read_run(directory: Path) -> Run:
    """Return the run of a directory, with its teachers; UserError if its files hold none."""
    identity = _identity(directory)
    for key, read, folder in (
        ("teacher", read_run, Run.folder),
        ("classifier", read_classifier_run, ClassifierRun.folder),
    ):
        name = identity.get(key)
        identity[key] = read(RESULTS / folder / name) if name else None
    return _built(Run, directory, identity)


def read_classifier_run(directory: Path) -> ClassifierRun:
    """Return the classifier's run of a directory; UserError if its files hold none."""
    return _built(ClassifierRun, directory, _identity(directory))


def _identity(directory: Path) -> dict[str, Any]:
    identity = read_json(directory / "run.json")
    if not isinstance(identity, dict):
        raise UserError(
            f"{directory / 'run.json'}: does not describe a run; compose it again: `kd compose "
            "STUDY --write`"
        )
    return identity


def _built(kind: type[RunKind], directory: Path, identity: dict[str, Any]) -> RunKind:
    try:
        return kind(**identity, config=read_config(directory))
    except TypeError as error:
        raise UserError(
            f"{directory / 'run.json'}: does not describe a run ({error}); compose it again"
        ) from None


def digest_of(settings: Any) -> str:
    """Return eight hex digits of the SHA-256 of settings that are plain data."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def seedless(settings: Any) -> Any:
    """Return settings without any key ``seed``, and without seeds and digests in names of runs.

    The students of paired teachers are equal in this form, although each names another teacher.
    """
    if isinstance(settings, dict):
        return {key: seedless(value) for key, value in settings.items() if key != "seed"}
    if isinstance(settings, list):
        return [seedless(value) for value in settings]
    return SEED_AND_DIGEST.sub("seed", settings) if isinstance(settings, str) else settings


def _same_run(config: Any, other: dict[str, Any]) -> bool:
    """Return True if two configurations differ in class names and observers alone."""
    return isinstance(config, dict) and canonical_form(config) == canonical_form(other)
