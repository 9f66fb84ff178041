"""Reader of Label Studio's JSON and JSON-MIN exports.

Its COCO, VOC and YOLO exports are read as these formats.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from kd.common.errors import UserError
from kd.start.folder import Folder
from kd.start.labels import Box, Faults, LabeledBox, LabeledImage, Labels, checked_classes

Record = dict[str, Any]
NAMES = ("rectanglelabels", "polygonlabels", "labels")


def is_label_studio(content: Any) -> bool:
    """Return True for the content of an export."""
    if not (isinstance(content, list) and content and isinstance(content[0], dict)):
        return False
    task = content[0]
    return ("data" in task and "annotations" in task) or ("image" in task and "annotator" in task)


def read(folder: Folder, contents: dict[Path, Any]) -> Labels:
    """Return the labels of a folder; ``contents``: its exports."""
    labels = Labels("Label Studio", [], [])
    faults, names = Faults(), dict[str, None]()
    used: set[Path] = set()
    if len(contents) > 1:
        first, second, *_ = contents
        raise UserError(f"{first}: {second} is an export, too; give a folder with one of them")
    for path, tasks in contents.items():
        for number, task in enumerate(tasks):
            image = _image(folder, path, number, task, labels, faults)
            if image is None:
                continue
            if image.path in used:
                faults.add(f"{path}: task {number}", f"{image.path} is labeled in another task")
            used.add(image.path)
            names.update(dict.fromkeys(box.name for box in image.boxes))
            labels.images.append(image)
    faults.refuse()
    if not labels.images:
        raise UserError(
            f"{next(iter(contents))}: none of its images exists below {folder.root}; put them "
            "there with the names of the export"
        )
    for image_path in folder.images:
        if image_path not in used:
            labels.leave_out("images that no annotation file lists", image_path)
    labels.classes = checked_classes(sorted(names), folder.root) if names else []
    return labels


def _image(
    folder: Folder, path: Path, number: int, task: Any, labels: Labels, faults: Faults
) -> LabeledImage | None:
    place = f"{path}: task {number}"
    name = _image_name(task)
    if name is None:
        faults.add(place, "has no image; export tasks with images")
        return None
    file = folder.find_image(name, path.parent, path.parent / "images")
    if file is None and "-" in name:  # Label Studio puts eight digits before uploaded names
        file = folder.find_image(name.partition("-")[2], path.parent, path.parent / "images")
    if file is None:
        labels.leave_out("images of annotation files that do not exist", f"{place}: {name}")
        return None
    image = LabeledImage(file, path, split=folder.split_of(file), unit="fractions")
    results = _results(task)
    if results is None:
        labels.leave_out("images without a submitted annotation", file)
        return None
    for position, result in enumerate(results):
        where = f"task {number}, result {position}"
        value = result.get("value", result)
        title = next((value[key][0] for key in NAMES if value.get(key)), None)
        if title is None:
            if result.get("type") not in ("relation", "choices"):
                labels.leave_out("results without a label", f"{path}: {where}")
            continue
        box = _box(value)
        if box is None:
            faults.add(f"{path}: {where}", "is no rectangle or polygon; export boxes")
        else:
            if value.get("rotation"):
                labels.note("rotated boxes, used without their rotation", f"{path}: {where}")
            image.boxes.append(LabeledBox(str(title), box, where))
    return image


def _image_name(task: Any) -> str | None:
    """Return the name of a task's image without the server's part of its address."""
    data = task.get("data", task) if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return None
    text = data.get("image") or next(
        (value for value in data.values() if isinstance(value, str) and "." in value), None
    )
    if not isinstance(text, str):
        return None
    address = urlparse(text)
    local = parse_qs(address.query).get("d")
    return unquote(Path(local[0] if local else address.path).name) or None


def _results(task: Record) -> list[Record] | None:
    """Return the results of the first submitted annotation; None without one."""
    if "annotations" not in task:
        return list(_dicts(task.get("label") or []))
    for annotation in _dicts(task["annotations"]):
        if not annotation.get("was_cancelled"):
            return list(_dicts(annotation.get("result") or []))
    return None


def _dicts(values: Any) -> Iterator[Record]:
    return (value for value in values if isinstance(value, dict))


def _box(value: Record) -> Box | None:
    """Return a rectangle, or the box around a polygon, as fractions; the export has percent."""
    try:
        if "points" in value:
            across, down = ([float(p[axis]) / 100 for p in value["points"]] for axis in (0, 1))
            box = (min(across), min(down), max(across) - min(across), max(down) - min(down))
        else:
            x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
            box = (x, y, width, height)
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return box if all(map(math.isfinite, box)) else None
