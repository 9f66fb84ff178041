"""Run groups, which figures compare: their labels, and runs by seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from analysis.runs.titles import ROLES, backbone_name, method_name
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.results import RESULTS
from kd.config.canonical import canonical_form
from kd.config.composed import ComposedConfig, read_config
from kd.config.library import Library
from kd.config.run import seedless
from kd.data.readers import GroundTruth
from kd.evaluation import evaluate

Role = Literal["teacher", "baseline", "distilled"]
Member = tuple[Path, dict[str, Any]]
"""Directory of a run, and its parts by name."""


@dataclass(frozen=True)
class RunGroup:
    """One way of training one detector, and its runs by seed."""

    label: str
    """Name in figures; no two groups of a figure share one."""
    role: Role
    method: str
    """Method in the notation of studies, such as ``rm+pfi``; empty for a detector without one."""
    identity: Mapping[str, Any]
    """Content of ``run.json`` of the lowest seed: the parts by name."""
    runs: Mapping[int, Path]

    @property
    def directory(self) -> Path:
        """Directory of the lowest seed, which represents the group."""
        return self.runs[min(self.runs)]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The method's settings by dotted name, such as ``rm.weight``."""
        return _flat(ComposedConfig.read(self.directory).terms)


def read(directories: Sequence[Path], library: Library) -> list[RunGroup]:
    """Return the groups of run directories, in their order; runs that differ in seed are one group.

    The students of a group may have one teacher, or each the teacher of its seed. A run without
    a method is a teacher if one of the other runs was distilled from it. UserError if a directory
    is not a run, or is that of a classifier.
    """
    members: dict[str, list[Member]] = {}
    for directory in map(Path, directories):
        identity = _identity(directory)
        # Runs of one group share their parts and settings except the seeds.
        settings = [seedless(identity), seedless(canonical_form(read_config(directory)))]
        key = json.dumps(settings, sort_keys=True)
        members.setdefault(key, []).append((directory, identity))
    teachers = {identity["teacher"] for runs in members.values() for _, identity in runs}
    return _with_distinct_labels(
        [
            _group(group, teachers, library)
            for runs in members.values()
            for group in _with_distinct_seeds(runs)
        ],
        library,
    )


def _with_distinct_seeds(members: list[Member]) -> list[list[Member]]:
    """Return runs as one group, or as one for each teacher if several have the same seed."""
    if len({identity["seed"] for _, identity in members}) == len(members):
        return [members]
    groups: dict[tuple[Any, ...], list[Member]] = {}
    for directory, identity in members:
        teachers = identity["teacher"], identity["classifier"]
        groups.setdefault(teachers, []).append((directory, identity))
    return list(groups.values())


def teacher_of(groups: Sequence[RunGroup]) -> Path:
    """Return the directory of the only teacher of the runs that represent the groups.

    UserError without one, or if the lowest seeds of the groups have several.
    """
    names = [group.identity["teacher"] for group in groups]
    paths = [RESULTS / "runs" / name for name in names if name]
    teachers = {path.resolve(): path for path in paths}
    for group in groups:
        runs = {path.resolve() for path in group.runs.values()}
        if group.role == "teacher" and not runs & teachers.keys():
            teachers[group.directory.resolve()] = group.directory
    if not teachers:
        raise UserError(
            "the teacher is unknown: none of the runs was distilled from a detector, and none is a "
            "teacher's; add a distilled run"
        )
    if len(teachers) > 1:
        text = ", ".join(str(path) for path in teachers.values())
        raise UserError(f"the runs have several teachers: {text}")
    return next(iter(teachers.values()))


def students_of(groups: Sequence[RunGroup]) -> list[RunGroup]:
    """Return all groups but the teacher; UserError if there are no others."""
    students = [group for group in groups if group.role != "teacher"]
    if not students:
        raise UserError("no run of a student was given")
    return students


def check_one_dataset(groups: Sequence[RunGroup]) -> None:
    """Raise UserError for groups of several data sets."""
    names = {group.identity["dataset"]: group.directory for group in groups}
    if len(names) > 1:
        text = ", ".join(f"'{name}' ({path})" for name, path in names.items())
        raise UserError(f"the runs are of different data sets: {text}")


def truth_of(groups: Sequence[RunGroup], library: Library) -> GroundTruth:
    """Return the test split of all groups; UserError for groups of several data sets."""
    check_one_dataset(groups)
    return evaluate.truth_of(groups[0].directory, library)


def _identity(directory: Path) -> dict[str, Any]:
    identity = read_json(directory / "run.json")
    if not isinstance(identity, dict) or "student" not in identity:
        raise UserError(f"{directory}: not the run of a detector")
    return identity


def _group(members: list[Member], teachers: set[str | None], library: Library) -> RunGroup:
    """Return the group of runs; ``teachers``: names of the teachers of all runs."""
    runs = {identity["seed"]: path for path, identity in members}
    identity = min((identity for _, identity in members), key=lambda parts: parts["seed"])
    method = identity["method"] or ""
    teacher_paths = {(RESULTS / "runs" / name).resolve() for name in teachers if name}
    is_teacher = any(path.resolve() in teacher_paths for path, _ in members)
    role: Role = "distilled" if method else "teacher" if is_teacher else "baseline"
    label = method_name(method, library) if method else ROLES[role]
    return RunGroup(label, role, method, identity, dict(sorted(runs.items())))


def _with_distinct_labels(groups: list[RunGroup], library: Library) -> list[RunGroup]:
    """Add the differences to labels that several groups share."""
    renamed = []
    for group in groups:
        alike = [other for other in groups if other.label == group.label]
        added = f" ({_difference(group, alike, library)})" if len(alike) > 1 else ""
        renamed.append(replace(group, label=group.label + added))
    return renamed


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
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
