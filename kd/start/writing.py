"""Files that ``kd start`` writes: annotations of the splits, and three YAML files."""

import hashlib
import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kd.common.errors import UserError
from kd.common.files import read_json, sha256, write_text
from kd.data.entry import SplitName
from kd.start.folder import WRITTEN
from kd.start.samples import Sample

WIDTH = 100
RECORD = "start.json"
DIGITS = 3
"""Digits of a pixel that are written."""


def folder_of(name: str) -> Path:
    """Return the folder of the annotations that ``kd start`` writes."""
    return Path("data") / name / WRITTEN


def image_root(samples: Sequence[Sample]) -> Path:
    """Return the folder that contains all images."""
    return Path(os.path.commonpath([os.path.abspath(sample.path.parent) for sample in samples]))


def places(name: str, images: Path) -> dict[str, str]:
    """Return the root of the entry, and the folders of annotations and images below it.

    Inside the project all are relative, so that the project can be moved.
    """
    annotations, project = folder_of(name), Path.cwd()
    if not images.is_relative_to(project):
        return {"root": f"data/{name}", "annotations": WRITTEN, "images": str(images)}
    root = Path(os.path.commonpath([annotations.absolute(), images])).relative_to(project)
    return {
        "root": root.as_posix(),
        "annotations": annotations.relative_to(root).as_posix(),
        "images": images.relative_to(project / root).as_posix(),
    }


def annotation_text(samples: Sequence[Sample], classes: Sequence[str], root: Path) -> str:
    """Return a split as an annotation file of COCO; ``root``: the folder of its images."""
    ids = {name: number for number, name in enumerate(classes, start=1)}
    images, annotations = [], list[dict[str, Any]]()
    for number, sample in enumerate(samples, start=1):
        name = Path(os.path.abspath(sample.path)).relative_to(root).as_posix()
        width, height = sample.size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box in sample.boxes:
            left, top, across, down = (round(value, DIGITS) for value in box.xywh)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": ids[box.name],
                "bbox": [left, top, across, down],
                "area": round(box.xywh[2] * box.xywh[3], DIGITS),
                "iscrowd": int(box.crowd),
            }
            annotations.append({**annotation, **({"ignore": 1} if box.ignored else {})})
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return json.dumps(content, ensure_ascii=False) + "\n"


class Block(list[tuple[str, Any, str]]):
    """Keys of a block in a YAML file, each with its value and the reason for it, or no text."""


def yaml_text(heading: str, entries: Block) -> str:
    """Return a YAML file; the reason for a value is a comment above its key."""
    return "\n".join([_comment(heading, ""), *_lines(entries, "")]) + "\n"


def _lines(entries: Block, indent: str) -> Iterator[str]:
    for key, value, reason in entries:
        if reason:
            yield _comment(reason, indent)
        if isinstance(value, Block):
            yield f"{indent}{key}:"
            yield from _lines(value, f"{indent}  ")
            continue
        text = yaml.safe_dump(
            {key: value},
            default_flow_style=None if isinstance(value, dict | list) else False,
            sort_keys=False,
            allow_unicode=True,
            width=WIDTH,
        )
        yield textwrap.indent(text.rstrip(), indent)


def _comment(text: str, indent: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


class Files(NamedTuple):
    """Files that a start wrote, and unchanged ones of an earlier start that it removed."""

    written: list[Path]
    removed: list[Path]


def write_all(name: str, files: dict[Path, str], facts: dict[str, Any], force: bool) -> Files:
    """Write all files and their record, atomically; remove those of an earlier start that go.

    UserError before the first is written if one exists, unless ``force`` is true and it is
    unchanged since an earlier ``kd start`` wrote it.
    """
    record = folder_of(name) / RECORD
    earlier: dict[str, str] = read_json(record)["files"] if record.exists() else {}
    for path in files:
        if path.exists():
            _require_replaceable(path, earlier, force)
    digests = {str(path): hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}
    stale = [
        path
        for path, digest in ((Path(name), digest) for name, digest in earlier.items())
        if path not in files and path.exists() and sha256(path) == digest
    ]
    for path in stale:
        path.unlink()
    # The record comes first: after an interruption, --force recognizes the files that exist.
    _write(record, json.dumps({**facts, "files": digests}, indent=1, ensure_ascii=False) + "\n")
    for path, text in files.items():
        _write(path, text)
    return Files([*files, record], stale)


def _require_replaceable(path: Path, earlier: dict[str, str], force: bool) -> None:
    if str(path) not in earlier:
        raise UserError(
            f"{path}: exists, and `kd start` did not write it; choose another name with --name"
        )
    if not force:
        raise UserError(
            f"{path}: exists; choose another name with --name, or replace it with --force"
        )
    if sha256(path) != earlier[str(path)]:
        raise UserError(
            f"{path}: was changed after `kd start` wrote it; move it away, or choose another name "
            "with --name"
        )


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def split_files(
    name: str, splits: dict[SplitName, list[Sample]], classes: Sequence[str], root: Path
) -> dict[Path, str]:
    """Return the annotation file of each split by path."""
    return {
        folder_of(name) / f"{split}.json": annotation_text(samples, classes, root)
        for split, samples in splits.items()
    }
