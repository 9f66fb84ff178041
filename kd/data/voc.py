"""Scanning a split in Pascal VOC layout as mmdet's XMLDataset reads it.

Coordinates: mmdet cuts them to whole pixels and subtracts 1, as VOC counts pixels from 1; a box
``xmin, ymin, xmax, ymax`` becomes xywh ``[xmin - 1, ymin - 1, xmax - xmin, ymax - ymin]``.
"""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from PIL import Image

from kd.data.scan import Problem, Record, Scan, SplitName, absence
from kd.settings.datasets import Dataset

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Listed(NamedTuple):
    """One line of an image set: the name mmdet uses as image id, and the folder that holds it."""

    name: str
    folder: str

    def file(self, kind: str, suffix: str) -> Path:
        """Path below the root of the data set."""
        return Path(self.folder, kind, f"{self.name}{suffix}")


class Marked(NamedTuple):
    """One object of an annotation file; the box is xywh pixels."""

    name: str
    box: list[float]
    difficult: int


class MalformedError(Exception):
    """An annotation file that mmdet could not read; the text says where."""


def scan_voc(dataset: Dataset, split: SplitName, classes: list[str] | None) -> Scan:
    """Read a split; ``classes`` None takes the sorted names that it uses."""
    scan = Scan()
    root = Path(dataset.root)
    marked: list[list[Marked]] = []
    files: list[Path] = []
    for listed in _list_images(scan, dataset, split):
        path = root / listed.file("Annotations", ".xml")
        data = scan.read(path, "annotation file", dataset)
        if data is None:
            continue
        image_file = listed.file("JPEGImages", ".jpg")
        try:
            width, height, objects = _parse(data, root / image_file)
        except MalformedError as error:
            scan.error(path, str(error))
            continue
        scan.images.append(
            {
                "id": len(scan.images) + 1,
                "name": listed.name,
                "file_name": image_file.as_posix(),
                "width": width,
                "height": height,
            }
        )
        scan.paths.append(root / image_file)
        marked.append(objects)
        files.append(path)
    names = classes or sorted({one.name for objects in marked for one in objects})
    scan.categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    _take_boxes(scan, files, marked)
    return scan


def _list_images(scan: Scan, dataset: Dataset, split: SplitName) -> list[Listed]:
    """Return the lines of the split's image sets, each once."""
    found: dict[str, Path] = {}
    listed: list[Listed] = []
    for image_set in getattr(dataset, split):
        folder, _, name = image_set.rpartition("/")
        path = Path(dataset.root, folder, "ImageSets", "Main", f"{name}.txt")
        for number, line in enumerate(_lines(scan, path, dataset), start=1):
            if not line or line != line.strip() or len(line.split()) != 1 or "\0" in line:
                scan.error(path, f"line {number}: must be one image name, not {line!r}")
            elif line in found:
                scan.error(path, f"line {number}: {line!r} is listed before, in {found[line]}")
            else:
                found[line] = path
                listed.append(Listed(line, folder))
    if listed and not any(
        Path(dataset.root, folder, "JPEGImages").is_dir()
        for folder in {one.folder for one in listed}
    ):
        missing = Path(dataset.root, listed[0].folder, "JPEGImages")
        scan.error(missing, absence(dataset, missing, "image folder"))
    return listed


def _lines(scan: Scan, path: Path, dataset: Dataset) -> list[str]:
    data = scan.read(path, "image set", dataset)
    try:
        # Not splitlines(): it also splits at characters that a name may hold.
        lines = (data or b"").decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        scan.error(path, "not a text file in UTF-8")
        return []
    return lines[:-1] if lines[-1] == "" else lines


def _parse(data: bytes, image: Path) -> tuple[int, int, list[Marked]]:
    """Return width, height and objects of an annotation file."""
    try:
        page = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MalformedError(f"not valid XML: {error}") from None
    size = page.find("size")
    if size is None:
        width, height = _size_of_image(image)
    else:
        width, height = (_whole(size, key, "size") for key in ("width", "height"))
    if width < 1 or height < 1:
        raise MalformedError(f"size: {width} x {height} pixels")
    objects = [_object(one, f"object {i}") for i, one in enumerate(page.findall("object"), start=1)]
    return width, height, objects


def _size_of_image(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:  # Pillow's decoders raise many kinds
        raise MalformedError(f"has no 'size', and the image cannot be read: {error}") from None


def _object(element: ElementTree.Element, where: str) -> Marked:
    box = element.find("bndbox")
    if box is None:
        raise MalformedError(f"{where}: 'bndbox' is missing")
    x1, y1, x2, y2 = (_pixel(box, key, where) for key in CORNERS)
    difficult = 0 if element.find("difficult") is None else _whole(element, "difficult", where)
    name = _text(element, "name", where)
    return Marked(name, [x1 - 1, y1 - 1, x2 - x1, y2 - y1], int(difficult != 0))


def _text(parent: ElementTree.Element, key: str, where: str) -> str:
    element = parent.find(key)
    if element is None:
        raise MalformedError(f"{where}: '{key}' is missing")
    if not element.text or not element.text.strip():
        raise MalformedError(f"{where}: '{key}' is empty")
    return element.text


def _whole(parent: ElementTree.Element, key: str, where: str) -> int:
    text = _text(parent, key, where)
    try:
        return int(text)
    except ValueError:
        raise MalformedError(
            f"{where}: '{key}' must be a whole number, not {text[:40]!r}"
        ) from None


def _pixel(parent: ElementTree.Element, key: str, where: str) -> int:
    text = _text(parent, key, where)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MalformedError(f"{where}: '{key}' must be a number, not {text[:40]!r}")
    return int(value)


def _take_boxes(scan: Scan, files: list[Path], marked: list[list[Marked]]) -> None:
    ids = {category["name"]: category["id"] for category in scan.categories}
    example: dict[str, Path] = {}
    for image, path, objects in zip(scan.images, files, marked, strict=True):
        for one in objects:
            if one.name not in ids:
                scan.unlisted[one.name] += 1
                example.setdefault(one.name, path)
            elif scan.judge_box(one.box, image, path, one.name):
                scan.annotations.append(_annotation(scan, image, one, ids[one.name]))
    for name, count in sorted(scan.unlisted.items()):
        reason = f"{count} boxes of {name!r} in the split, which 'classes' does not list"
        scan.dropped.append(Problem(str(example[name]), reason))


def _annotation(scan: Scan, image: Record, one: Marked, category: int) -> Record:
    return {
        "id": len(scan.annotations) + 1,
        "image_id": image["id"],
        "category_id": category,
        "bbox": one.box,
        "area": one.box[2] * one.box[3],
        "iscrowd": 0,
        "difficult": one.difficult,
        "ignore": one.difficult,
    }
