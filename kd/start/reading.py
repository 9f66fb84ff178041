"""Recognition of the format of a labeled folder, and reading of its labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.common.lists import enumerate_names
from kd.start.folder import Folder
from kd.start.formats import coco, cvat, label_studio, voc, yolo
from kd.start.labels import Labels

FORMATS = ("coco", "voc", "yolo", "cvat", "label-studio")
READ = "COCO, Pascal VOC, YOLO, CVAT and Label Studio"
MOST_PARSED = 20
"""JSON files that are parsed to recognize the format: tools write one for a data set or split."""


def read_labels(folder: Folder, name: str | None) -> Labels:
    """Return the labels of a folder; ``name``: one of FORMATS, if the folder has several.

    UserError if the folder has no images or no labels, has several formats, or is malformed.
    """
    if not folder.files:
        raise UserError(f"{folder.root}: is empty; put images and labels there")
    if not folder.images:
        raise UserError(
            f"{folder.root}: has no image among its {len(folder.files)} files; put the images "
            "beside their labels"
        )
    jsons = {} if name in ("voc", "yolo", "cvat") else _parsed(folder)
    coco_files = {path: one for path, one in jsons.items() if coco.is_coco(one)}
    exports = {path: one for path, one in jsons.items() if label_studio.is_label_studio(one)}
    readers: dict[str, tuple[Path | None, Callable[[], Labels]]] = {
        "coco": (next(iter(coco_files), None), lambda: coco.read(folder, coco_files)),
        "voc": (voc.evidence(folder), lambda: voc.read(folder)),
        "yolo": (yolo.evidence(folder), lambda: yolo.read(folder)),
        "cvat": (cvat.evidence(folder), lambda: cvat.read(folder)),
        "label-studio": (
            next(iter(exports), None),
            lambda: label_studio.read(folder, exports),
        ),
    }
    evidence = {name: path for name, (path, _) in readers.items() if path}
    if name:
        if name not in evidence:
            raise UserError(f"{folder.root}: has no labels of format '{name}'; leave out --format")
        return readers[name][1]()
    if len(evidence) > 1:
        examples = enumerate_names(f"{name} ({path})" for name, path in evidence.items())
        raise UserError(
            f"{folder.root}: has labels of several formats: {examples}; choose one with --format"
        )
    if not evidence:
        raise UserError(_without_labels(folder, jsons))
    return readers[next(iter(evidence))][1]()


def _parsed(folder: Folder) -> dict[Path, Any]:
    """Return the content of JSON files; UserError for one that is not JSON.

    Of more files than data sets have, the first is parsed alone: it shows the format.
    """
    paths = folder.of(".json")
    if len(paths) > MOST_PARSED:
        paths = [path for path in paths if path.name == "_annotations.coco.json"] or paths[:1]
    return {path: coco.load(path) for path in paths}


def _without_labels(folder: Folder, jsons: dict[Path, Any]) -> str:
    """Return the message on a folder with images and no labels that can be read."""
    first = next(iter(jsons.items()), None)
    if first and isinstance(first[1], dict) and {"shapes", "imagePath"} <= first[1].keys():
        return f"{first[0]}: is a file of LabelMe, which is not read; export COCO or YOLO instead"
    if first:
        return (
            f"{first[0]}: has none of the lists of COCO ('images', 'annotations', 'categories'); "
            f"export the labels as one of {READ}"
        )
    tables = [*folder.of(".csv"), *folder.of(".tfrecord"), *folder.of(".record")]
    if tables:
        return f"{tables[0]}: this format is not read; export the labels as one of {READ}"
    return (
        f"{folder.root}: has {len(folder.images)} images and no labels; label them, or put the "
        f"export there ({READ} are read)"
    )
