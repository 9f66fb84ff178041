"""Start with a labeled folder: read it, split it, propose a study, and write the files."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from kd.common.errors import UserError
from kd.config.library import Library
from kd.data.entry import SplitName
from kd.start.dividing import Splits, divide, stated_splits
from kd.start.folder import Folder
from kd.start.labels import Labels
from kd.start.machine import Device, Machine, this_machine
from kd.start.measures import Measures, measure
from kd.start.pictures import alike, decode_pictures
from kd.start.proposal import Proposal, propose
from kd.start.reading import read_labels
from kd.start.samples import Sample, samples_of
from kd.start.writing import (
    Block,
    Files,
    folder_of,
    image_root,
    places,
    split_files,
    write_all,
    yaml_text,
)

SHARES: dict[SplitName, float] = {"val": 0.1, "test": 0.2}
"""Shares of all images that are split off where a folder has no such split."""


@dataclass(frozen=True)
class Request:
    """Options of ``kd start``."""

    folder: Path
    name: str | None = None
    study: str | None = None
    detector: str | None = None
    format: str | None = None
    device: Device | None = None
    seed: int = 0
    force: bool = False


@dataclass(frozen=True)
class Started:
    """Content of a folder, the proposal, and the files that were written."""

    request: Request
    name: str
    study: str
    labels: Labels
    division: Splits
    measures: Measures
    machine: Machine
    proposal: Proposal
    files: Files


def start(request: Request, library: Library) -> Started:
    """Read a folder, and write a data set entry, a schedule and a study for it.

    Own files are never changed. UserError, before a file is written, for a folder that cannot be
    used and for names that are taken.
    """
    root = _short_path(request.folder)
    folder = Folder(root)
    name = _valid_name(request.name or _name_of(root), "--name")
    study = _valid_name(request.study or name, "--study")
    _check_free(name, study, request.force)
    labels = read_labels(folder, request.format)
    pictures = decode_pictures(sorted({image.path for image in labels.images}))
    samples = samples_of(labels, pictures)
    samples = _in_splits(samples, labels, root)
    groups = alike([sample.path for sample in samples], pictures)
    division = divide(samples, groups, SHARES, request.seed, root)
    _require_boxes(division, root)
    measures = measure(division.splits, labels.classes)
    machine = this_machine(request.device)
    proposal = propose(measures, machine, library, request.detector)
    images = image_root(samples)
    files = {
        **split_files(name, division.splits, labels.classes, images),
        Path(f"configs/datasets/{name}.yaml"): _dataset_text(
            root, name, images, labels, division, proposal
        ),
        Path(f"configs/schedules/{name}.yaml"): _schedule_text(name, proposal),
        Path(f"configs/studies/{study}.yaml"): _study_text(root, name, proposal),
    }
    facts = {
        "folder": str(root),
        "format": labels.title,
        "seed": request.seed,
        "split_off": division.split_off,
        "machine": machine._asdict(),
    }
    written = write_all(name, files, facts, request.force)
    return Started(request, name, study, labels, division, measures, machine, proposal, written)


def _in_splits(samples: list[Sample], labels: Labels, root: Path) -> list[Sample]:
    """Return the samples without those outside of the splits of a folder that has splits."""
    if not stated_splits(samples, root):
        return samples
    for sample in samples:
        if sample.split is None:
            labels.leave_out("images outside of the splits of the folder", sample.path)
    return [sample for sample in samples if sample.split]


def _short_path(path: Path) -> Path:
    """Return a path relative to the project if it is inside, otherwise absolute."""
    whole = Path(os.path.abspath(path))
    project = Path.cwd()
    return whole.relative_to(project) if whole.is_relative_to(project) else whole


def _name_of(root: Path) -> str:
    """Return a name from that of the folder."""
    name = re.sub(r"[^a-z0-9_-]+", "-", root.name.lower()).strip("-") or "mine"
    return f"data-{name}" if _is_number(name) else name


def _is_number(name: str) -> bool:
    """Return whether ``snakemake --config study=NAME`` reads the name as a number."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def _valid_name(name: str, option: str) -> str:
    if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]*", name):
        raise UserError(
            f"{option} '{name}': use letters a to z, digits, '_' and '-', and begin with a letter "
            "or a digit"
        )
    if _is_number(name):
        raise UserError(
            f"{option} '{name}': snakemake reads it as a number; add a word, such as 'data-{name}'"
        )
    return name


def _check_free(name: str, study: str, force: bool) -> None:
    """Raise UserError, before images are read, for names that other files have."""
    record = folder_of(name) / "start.json"
    for kind, part in (("datasets", name), ("schedules", name), ("studies", study)):
        path = Path("configs") / kind / f"{part}.yaml"
        if path.exists() and not record.exists():
            raise UserError(
                f"{path}: exists, and `kd start` did not write it; choose another name with --name"
            )
        if path.exists() and not force:
            raise UserError(
                f"{path}: exists; choose another name with --name, or replace it with --force"
            )


def _require_boxes(division: Splits, root: Path) -> None:
    """Raise UserError for a split without an object."""
    for split, samples in division.splits.items():
        if not any(sample.boxes for sample in samples):
            raise UserError(
                f"{root}: split '{split}' has {len(samples)} images and no object; label more "
                "images"
            )


def _dataset_text(
    root: Path,
    name: str,
    images: Path,
    labels: Labels,
    division: Splits,
    proposal: Proposal,
) -> str:
    """Return ``configs/datasets/NAME.yaml``."""
    where = places(name, images)
    entries = Block(
        [
            ("format", "coco", ""),
            ("root", where["root"], "The images stay in their folder."),
        ]
    )
    for split in division.splits:
        annotations = f"{where['annotations']}/{split}.json"
        value = {"annotations": annotations, "images": where["images"]}
        entries.append((split, value, _split_reason(split, division)))
    entries += [
        ("classes", labels.classes, "Class names in label order."),
        ("image_size", *proposal.image_size),
    ]
    if proposal.group_by_aspect:
        entries.append(("group_by_aspect", *proposal.group_by_aspect))
    entries.append(("fetch", f"put the images and labels at {root}, and run kd start again", ""))
    heading = f"Images and {labels.title} labels of {root}. Written by `kd start`."
    return yaml_text(heading, entries)


def _split_reason(split: SplitName, division: Splits) -> str:
    if split not in division.split_off:
        return ""
    share = f"{100 * division.split_off[split]:.0f} % of the images"
    return (
        f"{share}, split off train with seed {division.seed}: every class is divided alike, and "
        "almost equal images stay together."
    )


def _schedule_text(name: str, proposal: Proposal) -> str:
    """Return ``configs/schedules/NAME.yaml``."""
    entries = Block((key, value, reason) for key, (value, reason) in proposal.schedule.items())
    return yaml_text(f"Schedule for data set {name}. Written by `kd start`.", entries)


def _study_text(root: Path, name: str, proposal: Proposal) -> str:
    """Return ``configs/studies/NAME.yaml``."""
    teacher, student = proposal.teacher[0], proposal.student[0]
    pair = {"teacher": teacher, "student": student}
    table = Block(
        [
            ("title", f"{teacher} teaches {student}", ""),
            ("dataset", name, ""),
            ("schedule", name, ""),
            ("detectors", [proposal.detector[0]], proposal.detector[1]),
            ("pairs", [pair], proposal.teacher[1]),
            ("methods", *proposal.methods),
        ]
    )
    entries = Block(
        [
            ("title", f"Own data: {name}", ""),
            ("seeds", *proposal.seeds),
            ("tables", Block([("own", table, "")]), ""),
        ]
    )
    if proposal.changes:
        value, reason = proposal.changes
        entries.append(("detectors", {proposal.detector[0]: value}, reason))
    if proposal.input_size:
        entries.append(("input_sizes", *proposal.input_size))
    heading = f"Study of {root}, for scale own. Written by `kd start`; change what you like."
    return yaml_text(heading, entries)
