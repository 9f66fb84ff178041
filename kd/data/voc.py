"""Scanning a split in Pascal VOC layout as mmdet's XMLDataset reads it.

Coordinates: mmdet cuts them to whole pixels and subtracts 1, as VOC counts pixels from 1; a box
``xmin, ymin, xmax, ymax`` becomes xywh ``[xmin - 1, ymin - 1, xmax - xmin, ymax - ymin]``.
"""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from kd.data.box_units import Suspects
from kd.data.decoding import explain_failure, read_header
from kd.data.entry import Dataset
from kd.data.scan import Problem, Record, Scan, SplitName, absence, bytes_of

CORNERS = ("xmin", "ymin", "xmax", "ymax")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"),
    *(".gif", ".jp2", ".avif", ".heic"),
)
"""Suffixes of image files, in any case of letters; OpenCV may be unable to decode some of them."""


class Listed(NamedTuple):
    """One line of an image set: the name mmdet uses as image id, and the folder that holds it.

    ``image_set``: the file that lists it.
    """

    name: str
    folder: str
    image_set: Path

    def file(self, kind: str, suffix: str) -> Path:
        """Path below the root of the data set."""
        return Path(self.folder, kind, f"{self.name}{suffix}")


class Marked(NamedTuple):
    """One object of an annotation file; the box is xywh pixels."""

    name: str
    box: list[float]
    difficult: int
    corners: list[float]
    """xmin, ymin, xmax, ymax as they are written."""


class ImageFiles:
    """The image files below ``JPEGImages``, found by name: ``a1`` is ``a1.jpg``, ``a1.PNG`` ...

    Each folder is listed once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, name: str) -> list[str]:
        """Return the files of an image relative to the folder, ``.jpg`` first."""
        relative = Path(name)
        parent = self.folder / relative.parent
        if parent not in self._listed:
            self._listed[parent] = _list_by_stem(parent)
        files = self._listed[parent].get(relative.name, [])
        return [str(relative.with_name(file)) for file in files]

    def choose(self, name: str) -> str:
        """Return the file of an image, ``<name>.jpg`` where there is none."""
        return next(iter(self.find(name)), f"{name}.jpg")


def _list_by_stem(folder: Path) -> dict[str, list[str]]:
    try:
        files = sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        return {}
    listed: dict[str, list[str]] = {}
    for file in sorted(files, key=lambda file: not file.endswith(".jpg")):
        stem, dot, suffix = file.rpartition(".")
        if dot and f".{suffix.lower()}" in SUFFIXES:
            listed.setdefault(stem, []).append(file)
    return listed


class MalformedError(Exception):
    """An annotation file that mmdet could not read; the text says where."""


def scan_voc(dataset: Dataset, split: SplitName, classes: list[str] | None) -> Scan:
    """Read a split; ``classes`` None takes the sorted names that it uses."""
    scan = Scan()
    root = Path(dataset.root)
    marked: list[list[Marked]] = []
    files: list[Path] = []
    image_sets: list[Path] = []
    pictures: dict[str, ImageFiles] = {}
    for listed in _list_images(scan, dataset, split):
        path = root / listed.file("Annotations", ".xml")
        data = scan.read(path, "annotation file", dataset)
        if data is None:
            continue
        folder = Path(listed.folder, "JPEGImages")
        if listed.folder not in pictures:
            pictures[listed.folder] = ImageFiles(root / folder)
        image_file = folder / _choose_image(scan, pictures[listed.folder], listed.name)
        try:
            width, height, objects = _parse(data, root / image_file)
        except MalformedError as error:
            scan.error(path, str(error))
            continue
        scan.images.append(
            {
                "id": len(scan.images) + 1,
                "img_id": listed.name,
                "file_name": image_file.as_posix(),
                "width": width,
                "height": height,
            }
        )
        scan.paths.append(root / image_file)
        marked.append(objects)
        files.append(path)
        image_sets.append(listed.image_set)
    names = classes or sorted({one.name for objects in marked for one in objects})
    scan.categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    scan.order = list(names)
    _take_boxes(scan, files, marked)
    _note_empty_sets(scan, dataset, split, image_sets)
    return scan


def _note_empty_sets(
    scan: Scan, dataset: Dataset, split: SplitName, image_sets: list[Path]
) -> None:
    """Note each image set that gives the loader no image: training leaves out those without box."""
    loaded = {
        image_set
        for image, image_set in zip(scan.images, image_sets, strict=True)
        if split == "test" or image["id"] in scan.loaded
    }
    for name in getattr(dataset, split):
        path = _path_of(dataset, name)
        if path not in loaded:
            what = "no image with a box" if path in image_sets else "no image"
            scan.notes.append(Problem(str(path), f"lists {what}"))


def _path_of(dataset: Dataset, image_set: str) -> Path:
    folder, _, name = image_set.rpartition("/")
    return Path(dataset.root, folder, "ImageSets", "Main", f"{name}.txt")


def _choose_image(scan: Scan, pictures: ImageFiles, name: str) -> str:
    """Return an image's file; several are an error unless one of them is a ``.jpg``."""
    files = pictures.find(name)
    if len(files) > 1 and not files[0].endswith(".jpg"):
        scan.error(pictures.folder, f"image {name!r} has several files: {', '.join(files)}")
    return pictures.choose(name)


def _list_images(scan: Scan, dataset: Dataset, split: SplitName) -> list[Listed]:
    """Return the lines of the split's image sets, each once."""
    found: dict[str, Path] = {}
    listed: list[Listed] = []
    for image_set in getattr(dataset, split):
        folder = image_set.rpartition("/")[0]
        path = _path_of(dataset, image_set)
        for number, line in enumerate(_lines(scan, path, dataset), start=1):
            if not line or line != line.strip() or len(line.split()) != 1 or "\0" in line:
                scan.error(path, f"line {number}: must be one image name, not {line!r}")
            elif line in found:
                scan.error(path, f"line {number}: {line!r} is listed before, in {found[line]}")
            else:
                found[line] = path
                listed.append(Listed(line, folder, path))
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
    """Return width and height of a loaded image, which its EXIF orientation may swap."""
    data = bytes_of(path)
    header = read_header(data)
    if header is None:
        reason = explain_failure(data) if data else "no such image"
        short = reason.removeprefix("the image cannot be read: ")
        raise MalformedError(f"has no 'size', and the image cannot be read: {short}")
    return header.loaded_size


def _object(element: ElementTree.Element, where: str) -> Marked:
    box = element.find("bndbox")
    if box is None:
        raise MalformedError(f"{where}: 'bndbox' is missing")
    corners = [_number(box, key, where) for key in CORNERS]
    x1, y1, x2, y2 = map(int, corners)
    difficult = 0 if element.find("difficult") is None else _whole(element, "difficult", where)
    name = _text(element, "name", where)
    return Marked(name, [x1 - 1, y1 - 1, x2 - x1, y2 - y1], int(difficult != 0), corners)


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


def _number(parent: ElementTree.Element, key: str, where: str) -> float:
    text = _text(parent, key, where)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MalformedError(f"{where}: '{key}' must be a number, not {text[:40]!r}")
    return value


def _take_boxes(scan: Scan, files: list[Path], marked: list[list[Marked]]) -> None:
    ids = {category["name"]: category["id"] for category in scan.categories}
    example: dict[str, Path] = {}
    suspects = Suspects(corners=True)
    for image, path, objects in zip(scan.images, files, marked, strict=True):
        for one in objects:
            if one.name not in ids:
                scan.unlisted[one.name] += 1
                example.setdefault(one.name, path)
                continue
            suspects.add(one.corners, image)
            if scan.judge_box(one.box, image, path, one.name) != "useless":
                scan.annotations.append(_annotation(scan, image, one, ids[one.name]))
                scan.loaded.add(image["id"])
    for name, count in sorted(scan.unlisted.items()):
        reason = f"{count} boxes of {name!r} in the split, which 'classes' does not list"
        scan.dropped.append(Problem(str(example[name]), reason))
    suspects.report(scan, _root_of(files))


def _root_of(files: list[Path]) -> str:
    """Return the folder that holds the annotation files."""
    return str(files[0].parent) if files else ""


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
