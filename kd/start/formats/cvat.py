"""Reader of CVAT's "CVAT for images 1.1" export, through hotcoco."""

import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from kd.common.errors import UserError
from kd.start.folder import Folder
from kd.start.formats.coco import CocoFile
from kd.start.formats.voc import root_tag
from kd.start.labels import SPLIT_WORDS, Labels, checked_classes

EXPORT = "export the task again as 'CVAT for images 1.1'"


def evidence(folder: Folder) -> Path | None:
    """Return a file by which CVAT's format is recognized, or None."""
    return next((path for path in folder.of(".xml") if root_tag(path) == "annotations"), None)


def read(folder: Folder) -> Labels:
    """Return the labels of a folder; UserError if they are malformed."""
    labels = Labels("CVAT", [], [])
    names: dict[str, None] = {}
    used: set[Path] = set()
    for path in folder.of(".xml"):
        if root_tag(path) != "annotations":
            continue
        content, subsets = _content(path, labels)
        reader = CocoFile(folder, path, content, labels)
        names.update(dict.fromkeys(reader.names.values()))
        for image in reader.images(None):
            if image.path in used:
                raise UserError(f"{path}: image '{image.path}' is labeled twice; remove one")
            used.add(image.path)
            name = next((key for key in subsets if image.path.as_posix().endswith(f"/{key}")), "")
            image.split = SPLIT_WORDS.get(subsets.get(name, "").lower())
            image.split = image.split or folder.split_of(image.path)
            labels.images.append(image)
    for image_path in folder.images:
        if image_path not in used:
            labels.leave_out("images that no annotation file lists", image_path)
    labels.classes = checked_classes(list(names), folder.root)
    return labels


def _content(path: Path, labels: Labels) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a CVAT file as a COCO dict, and the subsets of its images by name."""
    from hotcoco import COCO

    try:
        page = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: not valid XML: {error}; {EXPORT}") from None
    if page.find("track") is not None:
        raise UserError(
            f"{path}: has the tracks of a video, whose frames are not stated to be images; {EXPORT}"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            content = dict(COCO.from_cvat(str(path)).dataset)
        except (ValueError, OSError) as error:
            text = " ".join(str(error).removeprefix("parse error: ").split())
            raise UserError(f"{path}: {text.removeprefix(f'{path}: ')}; {EXPORT}") from None
    if caught:
        labels.leave_out("shapes that are no boxes or polygons", path)
    for kind in ("box", "polygon"):
        for shape in page.iter(kind):
            if kind == "polygon":
                labels.note("outlines, replaced by the boxes around them", path)
            elif float(shape.get("rotation") or 0):
                labels.note("rotated boxes, used without their rotation", path)
    content["categories"] = _ordered(content["categories"], page)
    images = page.iter("image")
    return content, {image.get("name", ""): image.get("subset", "") for image in images}


def _ordered(categories: list[dict[str, Any]], page: ElementTree.Element) -> list[dict[str, Any]]:
    """Return categories in the order of the labels of a task, a job or a project.

    hotcoco reads the labels of tasks alone, and otherwise returns those that shapes have.
    """
    by_name = {category["name"]: category for category in categories}
    declared = [label.text or "" for label in page.iterfind("./meta//labels/label/name")]
    for name in dict.fromkeys(declared):
        new = {"id": max((one["id"] for one in by_name.values()), default=0) + 1, "name": name}
        by_name.setdefault(name, new)
    return [by_name[name] for name in dict.fromkeys([*declared, *by_name])]
