"""Scan of a split in Pascal VOC layout, as mmdet's XMLDataset reads it.

mmdet truncates coordinates to whole pixels and subtracts 1, because VOC counts pixels from 1. A box
``xmin, ymin, xmax, ymax`` becomes xywh ``[xmin - 1, ymin - 1, xmax - xmin, ymax - ymin]``.
"""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from kd.data.box_units import Suspects
from kd.data.decoding import explain_failure, read_header
from kd.data.entry import Dataset, SplitName
from kd.data.scan import Problem, Record, Scan, bytes_of, describe_absence

CORNERS = ("xmin", "ymin", "xmax", "ymax")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"),
    *(".gif", ".jp2", ".avif", ".heic"),
)
"""Suffixes of image files in lower case; OpenCV may be unable to decode some of them."""


class ListedImage(NamedTuple):
    """One line of an image set.

    ``name``: mmdet's id of the image. ``folder``: the folder with its files. ``image_set``: the
    file with the line.
    """

    name: str
    folder: str
    image_set: Path

    def file(self, kind: str, suffix: str) -> Path:
        """Return the image's path below the root of the data set."""
        return Path(self.folder, kind, f"{self.name}{suffix}")


class VocObject(NamedTuple):
    """One object of an annotation file; its box is xywh in pixels."""

    name: str
    box: list[float]
    difficult: int
    corners: list[float]
    """xmin, ymin, xmax, ymax as written."""


class ImageFiles:
    """Image files below ``JPEGImages`` by name: ``a1`` is ``a1.jpg``, ``a1.PNG`` ...

    Each folder is listed once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files_by_folder: dict[Path, dict[str, list[str]]] = {}

    def find(self, name: str) -> list[str]:
        """Return the files of an image relative to the folder, ``.jpg`` first."""
        relative = Path(name)
        parent = self.folder / relative.parent
        if parent not in self._files_by_folder:
            self._files_by_folder[parent] = _list_by_stem(parent)
        files = self._files_by_folder[parent].get(relative.name, [])
        return [str(relative.with_name(file)) for file in files]

    def choose(self, name: str) -> str:
        """Return the file of an image, or ``<name>.jpg`` if there is none."""
        return next(iter(self.find(name)), f"{name}.jpg")


def _list_by_stem(folder: Path) -> dict[str, list[str]]:
    try:
        files = sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        return {}
    by_stem: dict[str, list[str]] = {}
    for file in sorted(files, key=lambda file: not file.endswith(".jpg")):
        stem, dot, suffix = file.rpartition(".")
        if dot and f".{suffix.lower()}" in SUFFIXES:
            by_stem.setdefault(stem, []).append(file)
    return by_stem


class MalformedError(Exception):
    """An annotation file that mmdet cannot read; the text names the element."""


def scan_voc(dataset: Dataset, split: SplitName, classes: list[str] | None) -> Scan:
    """Read a split; without ``classes``, use the sorted names of its objects."""
    scan = Scan()
    root = Path(dataset.root)
    objects_of_images: list[list[VocObject]] = []
    files: list[Path] = []
    image_sets: list[Path] = []
    pictures: dict[str, ImageFiles] = {}
    for line in _list_images(scan, dataset, split):
        path = root / line.file("Annotations", ".xml")
        data = scan.read(path, "annotation file", dataset)
        if data is None:
            continue
        folder = Path(line.folder, "JPEGImages")
        if line.folder not in pictures:
            pictures[line.folder] = ImageFiles(root / folder)
        image_file = folder / _choose_image(scan, pictures[line.folder], line.name)
        try:
            width, height, objects = parse_annotation(data, root / image_file)
        except MalformedError as error:
            scan.error(path, str(error))
            continue
        scan.images.append(
            {
                "id": len(scan.images) + 1,
                "img_id": line.name,
                "file_name": image_file.as_posix(),
                "width": width,
                "height": height,
            }
        )
        scan.paths.append(root / image_file)
        objects_of_images.append(objects)
        files.append(path)
        image_sets.append(line.image_set)
    used_names = {item.name for objects in objects_of_images for item in objects}
    names = classes or sorted(used_names)
    scan.categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    scan.order = list(names)
    _take_boxes(scan, files, objects_of_images)
    _note_empty_sets(scan, dataset, split, image_sets)
    return scan


def _note_empty_sets(
    scan: Scan, dataset: Dataset, split: SplitName, image_sets: list[Path]
) -> None:
    """Add a note for each image set without a loaded image; training skips images without boxes."""
    loaded = {
        image_set
        for image, image_set in zip(scan.images, image_sets, strict=True)
        if split != "train" or image["id"] in scan.loaded
    }
    for path in dataset.listings(split):
        if path not in loaded:
            content = "no image with a box" if path in image_sets else "no image"
            scan.notes.append(Problem(str(path), f"lists {content}"))


def _choose_image(scan: Scan, pictures: ImageFiles, name: str) -> str:
    """Return an image's file; add an error for several files unless one is a ``.jpg``."""
    files = pictures.find(name)
    if len(files) > 1 and not files[0].endswith(".jpg"):
        scan.error(pictures.folder, f"image {name!r} has several files: {', '.join(files)}")
    return pictures.choose(name)


def _list_images(scan: Scan, dataset: Dataset, split: SplitName) -> list[ListedImage]:
    """Return the images of the split's image sets; add an error for each repeated line."""
    image_sets: dict[str, Path] = {}
    images: list[ListedImage] = []
    for image_set, path in zip(getattr(dataset, split), dataset.listings(split), strict=True):
        folder = image_set.rpartition("/")[0]
        for number, line in enumerate(_lines(scan, path, dataset), start=1):
            if not line or line != line.strip() or len(line.split()) != 1 or "\0" in line:
                scan.error(path, f"line {number}: must be one image name, not {line!r}")
            elif line in image_sets:
                scan.error(path, f"line {number}: {line!r} is listed before, in {image_sets[line]}")
            else:
                image_sets[line] = path
                images.append(ListedImage(line, folder, path))
    if images and not any(
        Path(dataset.root, folder, "JPEGImages").is_dir()
        for folder in {image.folder for image in images}
    ):
        missing = Path(dataset.root, images[0].folder, "JPEGImages")
        scan.error(missing, describe_absence(dataset, missing, "image folder"))
    return images


def _lines(scan: Scan, path: Path, dataset: Dataset) -> list[str]:
    data = scan.read(path, "image set", dataset)
    try:
        # splitlines() would also split at characters that a name may contain.
        lines = (data or b"").decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        scan.error(path, "not a text file in UTF-8")
        return []
    return lines[:-1] if lines[-1] == "" else lines


def parse_annotation(data: bytes, image: Path) -> tuple[int, int, list[VocObject]]:
    """Return width, height and objects of an annotation file; MalformedError names the fault."""
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
    elements = enumerate(page.findall("object"), start=1)
    objects = [_object(element, f"object {number}") for number, element in elements]
    return width, height, objects


def _size_of_image(path: Path) -> tuple[int, int]:
    """Return width and height of an image after its EXIF orientation is applied."""
    data = bytes_of(path)
    header = read_header(data)
    if header is None:
        reason = explain_failure(data) if data else "no such image"
        cause = reason.removeprefix("the image cannot be read: ")
        raise MalformedError(f"has no 'size', and the image cannot be read: {cause}")
    return header.loaded_size


def _object(element: ElementTree.Element, where: str) -> VocObject:
    box = element.find("bndbox")
    if box is None:
        raise MalformedError(f"{where}: 'bndbox' is missing")
    corners = [_number(box, key, where) for key in CORNERS]
    x1, y1, x2, y2 = map(int, corners)
    difficult = 0 if element.find("difficult") is None else _whole(element, "difficult", where)
    name = _text(element, "name", where)
    return VocObject(name, [x1 - 1, y1 - 1, x2 - x1, y2 - y1], int(difficult != 0), corners)


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


def _take_boxes(scan: Scan, files: list[Path], objects_of_images: list[list[VocObject]]) -> None:
    """Add the boxes of the listed classes to the scan, and count those of other classes."""
    ids = {category["name"]: category["id"] for category in scan.categories}
    example: dict[str, Path] = {}
    suspects = Suspects(corners=True)
    for image, path, objects in zip(scan.images, files, objects_of_images, strict=True):
        for item in objects:
            if item.name not in ids:
                scan.unlisted[item.name] += 1
                example.setdefault(item.name, path)
                continue
            suspects.add(item.corners, image)
            if scan.judge_box(item.box, image, path, item.name) != "useless":
                scan.annotations.append(_annotation(scan, image, item, ids[item.name]))
                scan.loaded.add(image["id"])
    for name, count in sorted(scan.unlisted.items()):
        reason = f"{count} boxes of {name!r} in the split, which 'classes' does not list"
        scan.dropped.append(Problem(str(example[name]), reason))
    suspects.report(scan, str(files[0].parent) if files else "")


def _annotation(scan: Scan, image: Record, item: VocObject, category: int) -> Record:
    return {
        "id": len(scan.annotations) + 1,
        "image_id": image["id"],
        "category_id": category,
        "bbox": item.box,
        "area": item.box[2] * item.box[3],
        "iscrowd": 0,
        "difficult": item.difficult,
        "ignore": item.difficult,
    }
