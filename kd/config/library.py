"""Library of the parts on disk, by name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from math import gcd
from pathlib import Path
from typing import Any, TypeVar

from kd import methods
from kd.common.errors import UserError, suggest
from kd.common.merging import merge
from kd.common.schema import Part, read_yaml
from kd.config.parts import Backbone, Classifier, Detector, PresetEntry, Scale, Schedule
from kd.config.pipelines import PREPROCESSOR
from kd.config.run import FOLDERS
from kd.config.schedules import changed, changed_name, describe_changes, split_name
from kd.config.study_parts import Study
from kd.data.entry import Dataset

AnyPart = TypeVar("AnyPart", bound=Part)
WIDTH = re.compile(r"(?P<base>.+)-w(?P<width>\d*\.?\d+)")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""Pattern of a part's name, which appears in paths, rules and shell commands."""


@dataclass(frozen=True)
class Preset:
    """A named variant of a method."""

    method: str
    title: str
    settings: dict[str, Any]
    file: Path


class Library:
    """Parts of ``configs/<folder>/<name>.yaml``; each file and folder is read once."""

    def __init__(self, root: Path = Path("configs")) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; run from the root of the project")
        if any((root / "methods").glob("*.yaml")):
            raise UserError(
                f"{root}/methods: presets are now in {root}/presets/<method>.yaml, each with a "
                "title and settings; move them (see docs/how-to/add-method.md) and delete the "
                "folder"
            )
        self.root = root
        self._yaml = cache(read_yaml)
        self._part = cache(self._read_part)
        self._detector = cache(self._read_detector)
        self._names = cache(self._names_in)
        self._file = cache(self._file_of)

    def names(self, folder: str) -> list[str]:
        """Return the names of the parts in a folder, sorted."""
        return list(self._names(folder))

    def dataset(self, name: str, where: str) -> Dataset:
        return self._read(Dataset, "datasets", name, where)

    def detector(self, name: str, where: str) -> Detector:
        """Return a detector, or a file of ``teachers``, which only teaches.

        UserError where it changes settings that do not exist, or is in the wrong folder.
        """
        folder = "teachers" if name in self.names("teachers") else "detectors"
        return self._detector(self._path(folder, name, where))

    def detector_on(self, name: str, backbone: str, where: str) -> Detector:
        """Return a detector with the changes that its file has for a backbone of any width."""
        match = WIDTH.fullmatch(backbone)
        return self.detector(name, where).on(match["base"] if match else backbone)

    def classifier(self, name: str, where: str) -> Classifier:
        return self._read(Classifier, "classifiers", name, where)

    def schedule(self, name: str, where: str) -> Schedule:
        """Return a schedule; ``1x-epochs6`` is ``1x`` with 6 epochs unless it is a file."""
        base, changes = split_name(name, self.names("schedules"))
        schedule = self._read(Schedule, "schedules", base, where)
        return changed(schedule, changes, f"{where}: schedule '{name}'") if changes else schedule

    def changed_schedule(self, name: str, changes: Mapping[str, Any], where: str) -> str:
        """Return the name of a schedule with changes.

        UserError if a file of that name holds another schedule.
        """
        schedule = self.schedule(name, where)
        if not changes:
            return name
        new = changed_name(name, schedule, changes, where)
        settings = changed(schedule, changes, where)
        if new != name and describe_changes(self.schedule(new, where), settings):
            raise UserError(
                f"{where}: schedule '{name}' with changes ({describe_changes(schedule, settings)}) "
                f"has the name of {self.root}/schedules/{new}.yaml, which holds other settings; "
                "rename that file"
            )
        return new

    def scale(self, name: str, where: str) -> Scale:
        """Return a scale; UserError where it gives an input size to a detector without one."""
        scale = self._read(Scale, "scales", name, where)
        key = f"{self.root}/scales/{name}.yaml: key 'input_sizes'"
        for detector in scale.input_sizes:
            if self.detector(detector, key).input_size is None:
                raise UserError(
                    f"{key}: detector '{detector}' has no 'input_size'; delete its line"
                )
        return scale

    def study(self, name: str, where: str) -> Study:
        study = self._read(Study, "studies", name, where)
        if name in FOLDERS:
            raise UserError(
                f"{self.root}/studies/{name}.yaml: results/{name} is a reserved folder; "
                "rename the study"
            )
        for key in study.cite:
            self.reference(key, f"{self.root}/studies/{name}.yaml: key 'cite'")
        return study

    def reference(self, key: str, where: str) -> str:
        """Return the BibTeX entry of a paper; UserError if there is none."""
        if key not in self.references:
            raise UserError(
                f"{where}: no entry '{key}' in {self.root}/published/references.bib; "
                f"{suggest(key, self.references)}"
            )
        return self.references[key]

    @cached_property
    def references(self) -> dict[str, str]:
        """BibTeX entries of papers by their keys."""
        path = self.root / "published" / "references.bib"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        entries = [entry.strip() for entry in re.split(r"(?m)^(?=@)", text) if entry.strip()]
        return {entry.partition("{")[2].partition(",")[0]: entry for entry in entries}

    @cached_property
    def presets(self) -> dict[str, Preset]:
        """The presets of all methods by name, sorted; UserError if two have one name."""
        presets: dict[str, Preset] = {}
        for method in self.names("presets"):
            for name, preset in self._presets_of(method).items():
                if name in presets:
                    raise UserError(
                        f"{preset.file}: preset '{name}' is also in {presets[name].file}; rename it"
                    )
                presets[name] = preset
        return dict(sorted(presets.items()))

    def _presets_of(self, method: str) -> dict[str, Preset]:
        file = self.root / "presets" / f"{method}.yaml"
        if method not in methods.names():
            raise UserError(f"{file}: no method '{method}'; {suggest(method, methods.names())}")
        entries = read_yaml(file)
        if not isinstance(entries, dict):
            raise UserError(f"{file}: must list presets by name, each with 'title' and 'settings'")
        presets = {}
        for name, settings in entries.items():
            if not re.fullmatch(r"\w+", str(name)):
                raise UserError(f"{file}: preset '{name}': use letters, digits and '_' in its name")
            if name in methods.names():
                raise UserError(f"{file}: preset '{name}' has the name of a method; rename it")
            entry = PresetEntry.parse(settings, f"{file}: preset '{name}'")
            presets[name] = Preset(method, entry.title, entry.settings, file)
        return presets

    def backbone(self, name: str, where: str) -> tuple[Backbone, float]:
        """Return a backbone and its width factor; ``r18-w0.5`` is (r18, 0.5)."""
        match = WIDTH.fullmatch(name)
        base, width = (match["base"], float(match["width"])) if match else (name, 1.0)
        if not 0 < width <= 4:
            raise UserError(f"{where}: backbone '{name}': the width must be above 0 and at most 4")
        part = self._read(Backbone, "backbones", base, where)
        for key, value in part.scaled.items():
            if isinstance(value, int) and value * width % 1:
                raise UserError(
                    f"{where}: backbone '{name}': {key} would be {value * width:g}; "
                    f"the width must be a multiple of 1/{value}"
                )
        broken = [channels for channels in part.channels if channels * width % 1]
        if part.divisor == 1 and broken:
            raise UserError(
                f"{where}: backbone '{name}': {broken[0]} channels would be "
                f"{broken[0] * width:g}; the width must be a multiple of 1/{gcd(*part.channels)}"
            )
        return part, width

    def _names_in(self, folder: str) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in (self.root / folder).glob("*.yaml")))

    def _read(self, kind: type[AnyPart], folder: str, name: str, where: str) -> AnyPart:
        """Return the part that ``where`` names; UserError where it does not exist."""
        return self._part(kind, self._path(folder, name, where))

    def _read_part(self, kind: type[AnyPart], path: Path) -> AnyPart:
        inherits = "base" in kind.model_fields
        return kind.parse(self._with_base(kind, path) if inherits else self._yaml(path), str(path))

    def _read_detector(self, path: Path) -> Detector:
        part = self._part(Detector, path)
        if (path.parent.name == "teachers") != (part.trained_as is not None):
            raise UserError(
                f"{path}: only files of {self.root}/teachers have 'trained_as', and each has it; "
                "move the file, or correct the key"
            )
        complete = {"data_preprocessor": PREPROCESSOR, **part.model}
        for backbone, changes in part.backbones.items():
            key = f"{path}: key 'backbones'"
            self._path("backbones", backbone, key)
            merge(complete, changes.model, f"{key}: {backbone}.model")
        return part

    def _with_base(self, kind: type[Part], path: Path, heirs: tuple[str, ...] = ()) -> Any:
        """Return the settings in a part's file over those of the part that its ``base`` names.

        Blocks are merged key by key. ``heirs``: the parts that inherit from this one.
        """
        settings = self._yaml(path)
        base = settings.get("base") if isinstance(settings, dict) else None
        if not isinstance(base, str):
            return settings
        key = f"{path}: key 'base'"
        if base in (path.stem, *heirs):
            raise UserError(
                f"{key}: '{base}' already inherits from '{path.stem}'; name another or delete the "
                "key"
            )
        base_path = self._path(path.parent.name, base, key)
        inherited = self._with_base(kind, base_path, (*heirs, path.stem))
        kind.parse(inherited, str(base_path))
        blocks = {key: inherited[key] | value for key, value in settings.items()
                  if isinstance(value, dict) and isinstance(inherited.get(key), dict)}  # fmt: skip
        return inherited | settings | blocks

    def _path(self, folder: str, name: str, where: str) -> Path:
        """Return the file of a part; UserError where it does not exist or has no valid name."""
        if name not in self._names(folder):
            valid = suggest(name, self.names(folder))
            raise UserError(f"{where}: no '{name}' in {self.root / folder}; {valid}")
        return self._file(folder, name)

    def _file_of(self, folder: str, name: str) -> Path:
        path = self.root / folder / f"{name}.yaml"
        if not NAME.fullmatch(name):
            raise UserError(
                f"{path}: '{name}' is not a valid name: use only letters a to z, digits, '.', "
                "'_' and '-', and begin with a letter, a digit or '_'; rename the file"
            )
        return path
