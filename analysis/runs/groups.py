"""The rows that a figure compares: what each is called, how it looks, and its runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from analysis.plotting.style import Look, look
from analysis.runs.titles import ROLES, backbone_name, method_name
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.results import RESULTS
from kd.config.composed import ComposedConfig, read_config
from kd.config.library import Library
from kd.config.run import seedless
from kd.data.readers import GroundTruth
from kd.evaluation import evaluate

Role = Literal["teacher", "baseline", "distilled"]


@dataclass(frozen=True)
class RunGroup:
    """One way of training one detector, and its runs by seed."""

    label: str
    """Its name in figures; no two groups of a figure share one."""
    role: Role
    method: str
    """As studies name it, such as ``rm+pfi``; empty for a detector trained alone."""
    identity: Mapping[str, Any]
    """``run.json`` of its first run: the parts by name."""
    runs: Mapping[int, Path]
    variant: int = 0
    """Its number among those of the same method with other settings."""

    @property
    def directory(self) -> Path:
        """The run of the lowest seed, which stands for the row where one run has to."""
        return self.runs[min(self.runs)]

    @property
    def look(self) -> Look:
        return look(self.role, self.method, self.variant)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The method's settings by dotted name, such as ``rm.weight``."""
        return _flat(ComposedConfig.read(self.directory).terms)


def read(directories: Sequence[Path], library: Library) -> list[RunGroup]:
    """Return the groups of run directories, in the order given; runs of several seeds make one.

    A run without a method is a teacher where another of the directories has learned from it.
    UserError where a directory is not a run, or holds a classifier.
    """
    rows: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for directory in map(Path, directories):
        identity = _identity(directory)
        rows.setdefault(_kind(identity, directory), []).append((directory, identity))
    taught = {identity["teacher"] for row in rows.values() for _, identity in row}
    return _told_apart([_subject(row, taught, library) for row in rows.values()], library)


def teacher_of(groups: Sequence[RunGroup]) -> Path:
    """Return the directory of the one detector that teaches the groups; UserError without one."""
    named = [RESULTS / "runs" / name for s in groups if (name := s.identity["teacher"])]
    named += [group.directory for group in groups if group.role == "teacher"]
    found = {path.resolve(): path for path in named}
    if not found:
        raise UserError("none of the runs has learned from a detector, and none is a teacher's")
    if len(found) > 1:
        listed = ", ".join(str(path) for path in found.values())
        raise UserError(f"the runs have several teachers: {listed}")
    return next(iter(found.values()))


def students_of(groups: Sequence[RunGroup]) -> list[RunGroup]:
    """Return all but the teacher; UserError where nothing is left."""
    students = [group for group in groups if group.role != "teacher"]
    if not students:
        raise UserError("no run of a student was given")
    return students


def check_one_dataset(groups: Sequence[RunGroup]) -> None:
    """Refuse groups of several data sets."""
    names = {group.identity["dataset"]: group.directory for group in groups}
    if len(names) > 1:
        listed = ", ".join(f"'{name}' ({path})" for name, path in names.items())
        raise UserError(f"the runs are of different data sets: {listed}")


def truth_of(groups: Sequence[RunGroup], library: Library) -> GroundTruth:
    """Return the test split that all groups were measured on; UserError where they differ."""
    check_one_dataset(groups)
    return evaluate.truth_of(groups[0].directory, library)


def _identity(directory: Path) -> dict[str, Any]:
    identity = read_json(directory / "run.json")
    if not isinstance(identity, dict) or "student" not in identity:
        raise UserError(f"{directory}: not the run of a detector")
    return identity


def _kind(identity: dict[str, Any], directory: Path) -> str:
    """Return what runs of one row share: their parts and settings, the seed aside."""
    parts = {key: value for key, value in identity.items() if key != "seed"}
    return json.dumps([parts, seedless(read_config(directory))], sort_keys=True)


def _subject(
    row: list[tuple[Path, dict[str, Any]]], taught: set[str | None], library: Library
) -> RunGroup:
    _, identity = row[0]
    method = identity["method"] or ""
    teachers = {(RESULTS / "runs" / name).resolve() for name in taught if name}
    teaches = any(path.resolve() in teachers for path, _ in row)
    role: Role = "distilled" if method else "teacher" if teaches else "baseline"
    label = method_name(method, library) if method else ROLES[role]
    runs = {identity["seed"]: path for path, identity in row}
    return RunGroup(label, role, method, identity, dict(sorted(runs.items())))


def _told_apart(groups: list[RunGroup], library: Library) -> list[RunGroup]:
    """Add to names that several groups share what these differ in."""
    named = []
    for group in groups:
        alike = [other for other in groups if other.label == group.label]
        added = f" ({_difference(group, alike, library)})" if len(alike) > 1 else ""
        label, variant = group.label + added, alike.index(group)
        named.append(replace(group, label=label, variant=variant))
    return named


def _difference(group: RunGroup, alike: list[RunGroup], library: Library) -> str:
    parts = [
        _part(key, group.identity[key], library)
        for key in ("dataset", "schedule", "scale", "detector", "student")
        if any(other.identity[key] != group.identity[key] for other in alike)
    ]
    parts += [
        f"{key.rpartition('.')[2].replace('_', ' ')} {group.settings.get(key, 'unset')}"
        for key in varying(alike)
    ]
    return ", ".join(parts) or group.directory.name.rpartition("-")[2]


def varying(groups: Sequence[RunGroup]) -> list[str]:
    """Return the settings of methods, by dotted name, in which the groups differ."""
    keys = sorted({key for group in groups for key in group.settings})
    return [key for key in keys if len({json.dumps(s.settings.get(key)) for s in groups}) > 1]


def _part(key: str, name: str, library: Library) -> str:
    if key == "detector":
        return library.detector(name, "figure").title
    return backbone_name(name, library) if key == "student" else name


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
