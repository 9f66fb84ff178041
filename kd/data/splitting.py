"""Validation splits that are held out of training splits: their files and lines of the entry."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from kd.common.errors import UserError
from kd.common.files import read_json, write_text
from kd.data.entry import CocoSplit, Dataset
from kd.data.image_files import copies
from kd.data.readers import valid_scan
from kd.data.scan import Scan
from kd.data.stratify import held_out

ENDS = {"train": "_minus_val", "val": "_val"}
"""Ends of the names of the files of each part, after the name of the training split's file."""
NO_BOX = ""
"""Label of images without boxes, which are divided like those of a class."""

PartOf = Mapping[int, str]
"""Part of each training image, ``train`` or ``val``, by the image's ``id``."""


@dataclass(frozen=True)
class Division:
    """A training split in two parts, ``train`` and ``val``, and the files that list them."""

    images: dict[str, int]
    """Number of images by part."""
    images_per_class: dict[str, dict[str, int]]
    """Number of images by class and part."""
    files: dict[Path, str]
    """Content of the file or files of each part by path."""
    lines: str
    """Lines of the entry that name both parts, and the classes if the entry does not list them."""


def divide(name: str, dataset: Dataset, share: float, seed: int) -> Division:
    """Divide the training split of a data set; ``share``: of its images, for validation.

    The same seed holds out the same images, whatever the order of the files. Copies of an image
    are in one part. UserError if the data set has a validation split already, draws its own, or has
    a training split that is absent, malformed or too small.
    """
    _require_none(name, dataset, share)
    scan = valid_scan(dataset, "train")
    titles = {category["id"]: category["name"] for category in scan.categories}
    classes_of: dict[int, set[str]] = {image["id"]: set() for image in scan.images}
    for annotation in scan.annotations:
        classes_of[annotation["image_id"]].add(titles[annotation["category_id"]])
    part_of = _parts(scan, classes_of, share, seed)
    if len({*part_of.values()}) < len(ENDS):
        raise UserError(
            f"configs/datasets/{name}.yaml: split 'train' has too few different images to hold "
            "some out; it needs at least 2"
        )
    per_class = {title: dict.fromkeys(ENDS, 0) for title in titles.values()}
    for image in scan.images:
        for title in classes_of[image["id"]]:
            per_class[title][part_of[image["id"]]] += 1
    files, splits = (_coco if dataset.format == "coco" else _voc)(dataset, scan, part_of)
    classes = {} if dataset.classes else {"classes": list(titles.values())}
    lines = yaml.safe_dump(
        {**splits, **classes}, default_flow_style=None, sort_keys=False, width=100
    )
    return Division(dict(Counter(part_of.values())), per_class, files, lines)


def write(division: Division) -> list[Path]:
    """Write the files of both parts; return those that did not exist.

    UserError before the first is written if one exists with other content.
    """
    for path, content in division.files.items():
        if path.exists() and path.read_bytes() != content.encode():
            raise UserError(
                f"{path}: exists with other content, such as another --share or --seed; use it "
                "unchanged, or move it away"
            )
    missing = [path for path in division.files if not path.exists()]
    for path in missing:
        try:
            write_text(path, division.files[path])
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    return missing


def describe(name: str, division: Division, written: Collection[Path]) -> str:
    """Return the sizes of both parts, the files, and the lines for the entry, as text."""
    rows = [
        *(
            (title, parts["train"], parts["val"])
            for title, parts in division.images_per_class.items()
        ),
        ("all images", division.images["train"], division.images["val"]),
    ]
    return "\n".join(
        [
            tabulate(rows, ("images with", *ENDS), tablefmt="plain"),
            "",
            *(f"{'Wrote' if path in written else 'Unchanged:'} {path}" for path in division.files),
            "",
            f"Copy configs/datasets/{name}.yaml to configs/datasets/{name}-minus-val.yaml, replace "
            "'train' in the copy with the lines below, and run "
            f"`kd check {name}-minus-val`. Leave {name}.yaml unchanged: with these lines, all runs "
            "of it would be trained again, on fewer images.",
            "",
            division.lines.rstrip(),
        ]
    )


def _require_none(name: str, dataset: Dataset, share: float) -> None:
    """Raise UserError for a data set that has a validation split, or can draw one."""
    where = f"configs/datasets/{name}.yaml"
    if dataset.val is not None:
        raise UserError(f"{where}: has a validation split already; remove 'val' to make another")
    if dataset.generate:
        count = max(round(share * dataset.generate.train), 1)
        raise UserError(
            f"{where}: the images are drawn, so more can be drawn for validation; add "
            f"'val: {count}' to 'generate', and the line "
            "'val: {annotations: annotations/val.json, images: val}'"
        )


def _parts(
    scan: Scan, classes_of: Mapping[int, set[str]], share: float, seed: int
) -> dict[int, str]:
    """Return the part of each image by its ``id``."""
    groups = [[scan.images[position] for position in group] for group in copies(scan)]
    keys = [min(image["file_name"] for image in group) for group in groups]
    classes = [set[str]().union(*(classes_of[image["id"]] for image in group)) for group in groups]
    held_out_groups = held_out(keys, [labels or {NO_BOX} for labels in classes], share, seed)
    return {
        image["id"]: "val" if index in held_out_groups else "train"
        for index, group in enumerate(groups)
        for image in group
    }


def _coco(dataset: Dataset, scan: Scan, part_of: PartOf) -> tuple[dict[Path, str], dict[str, Any]]:
    """Return the annotation files of both parts, with all other content, and their splits."""
    assert isinstance(dataset.train, CocoSplit)
    source = Path(dataset.train.annotations)
    content = read_json(Path(dataset.root, source))
    files, splits = {}, {}
    for part, end in ENDS.items():
        images = [one for one in content["images"] if part_of[one["id"]] == part]
        boxes = [one for one in content["annotations"] if part_of[one["image_id"]] == part]
        path = source.with_name(f"{source.stem}{end}{source.suffix}")
        text = json.dumps({**content, "images": images, "annotations": boxes})
        files[Path(dataset.root, path)] = f"{text}\n"
        splits[part] = {"annotations": path.as_posix(), "images": dataset.train.images}
    return files, splits


def _voc(dataset: Dataset, scan: Scan, part_of: PartOf) -> tuple[dict[Path, str], dict[str, Any]]:
    """Return the image sets of both parts, without empty ones, and their splits."""
    assert isinstance(dataset.train, list)
    part_of_name = {image["img_id"]: part_of[image["id"]] for image in scan.images}
    files: dict[Path, str] = {}
    splits: dict[str, Any] = {part: [] for part in ENDS}
    for image_set, path in zip(dataset.train, dataset.listings("train"), strict=True):
        names = path.read_text(encoding="utf-8").split("\n")
        for part, end in ENDS.items():
            members = [name for name in names if part_of_name.get(name) == part]
            if members:
                files[path.with_name(f"{path.stem}{end}{path.suffix}")] = "\n".join(members) + "\n"
                splits[part].append(f"{image_set}{end}")
    return files, splits
