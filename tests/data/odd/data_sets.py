"""Small data sets with the oddities of those that people have, drawn by hypothesis.

A drawn data set is a plain description; ``write`` puts it on disk. Most oddities are harmless or
left out by the check. Those that no training could survive are drawn only in ``broken`` data sets,
so that most data sets are usable.
"""

import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from PIL import Image

from kd.data.entry import Dataset
from tests.data.odd import voc

NAMES = ["cat", "dog", "Zürich $x$", "人", "a b", "none", "\u202eright", "n" * 40]
FILES = ["", "ä ", "'q' ", "日本/", "sub dir/", "%s#?"]
SOUND = [
    *("png", "png-grey", "png-palette", "png-rgba", "png-16", "png-1", "png-la"),
    *("jpg", "jpg-grey", "jpg-cmyk", "jpg-progressive", "webp", "bmp", "tif", "gif"),
]
SIZES = [(40, 30), (30, 40), (32, 32), (64, 48), (9, 9), (3, 90), (90, 5)]
DAMAGE = ["missing", "empty", "cut", "crc", "float", "text", "swapped", "size"]
BOXES = [
    *("inside",) * 8, "out", "barely", "outside", "flat", "thin", "negative", "whole", "far",
]  # fmt: skip


@dataclass
class OddImage:
    """One image: its file, its size and its boxes as (class name, kind, xywh, marks)."""

    name: str
    form: str
    size: tuple[int, int]
    seed: int
    orientation: int = 1
    damage: str = ""
    boxes: list[tuple[str, list[float], dict[str, Any]]] = field(default_factory=list)


@dataclass
class OddSplit:
    """A split, and what its annotation file does with ids, categories and further keys."""

    images: list[OddImage]
    options: dict[str, Any]


@dataclass
class OddDataset:
    """Both splits, the classes that are annotated, and the entry.

    ``broken``: may have faults that no training could survive.
    """

    form: str
    broken: bool
    names: list[str]
    train: OddSplit
    test: OddSplit
    entry: dict[str, Any]


def draw_box(draw: DrawFn, size: tuple[int, int], whole: bool) -> list[float]:
    """Draw a box, xywh in pixels."""
    width, height = size
    kind = draw(st.sampled_from(BOXES))
    x, y = draw(st.integers(0, max(width - 2, 0))), draw(st.integers(0, max(height - 2, 0)))
    w, h = draw(st.integers(1, max(width - x, 1))), draw(st.integers(1, max(height - y, 1)))
    box: list[float] = {
        "inside": [x, y, w, h],
        "out": [x - 3, y, w + 9, h],
        "barely": [width - 0.25, y, 30, h],
        "outside": [width + x, y, w, h],
        "flat": [x, y, w, 0],
        "thin": [x, y, 0.5, h],
        "negative": [x, y, -w, h],
        "whole": [0, 0, width, height],
        "far": [-1e6, y, 1e6 + 2, h],
    }[kind]
    if whole:
        return [float(math.floor(side)) for side in box]
    shift = draw(st.sampled_from([0, 0, 0.25, 1 / 3]))
    return [box[0] + shift, box[1], box[2], box[3]] if kind == "inside" else box


def image_bytes(image: OddImage) -> bytes:
    """Return the content of an image file."""
    rng = np.random.default_rng(image.seed)
    width, height = image.size
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    picture = Image.fromarray(pixels)
    kind, _, mode = image.form.partition("-")
    modes = {"grey": "L", "palette": "P", "rgba": "RGBA", "1": "1", "la": "LA", "cmyk": "CMYK"}
    if mode in modes:
        picture = picture.convert(modes[mode])
    if mode == "16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if image.damage == "float":
        kind, picture = "tif", Image.fromarray(pixels[..., 0].astype(np.float32))
    options: dict[str, Any] = {"progressive": True} if mode == "progressive" else {}
    if image.orientation != 1 and kind in ("png", "jpg", "webp", "tif"):
        exif = Image.Exif()
        exif[0x0112] = image.orientation
        options["exif"] = exif
    stream = io.BytesIO()
    formats = {"jpg": "JPEG", "tif": "TIFF", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}
    picture.save(stream, formats.get(kind, "PNG"), **options)
    return damaged(stream.getvalue(), image.damage)


def damaged(data: bytes, damage: str) -> bytes:
    if damage == "empty":
        return b""
    if damage == "text":
        return b"no image at all"
    if damage == "cut":
        return data[: len(data) * 2 // 3]
    place = data.find(b"IDAT")
    if damage == "crc" and place > 0:
        end = place + 4 + int.from_bytes(data[place - 4 : place], "big")
        return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]
    return data


def loaded_size(image: OddImage) -> tuple[int, int]:
    """Return width and height after the loader turned the image."""
    kind = image.form.partition("-")[0]
    turned = image.orientation >= 5 and kind in ("png", "jpg", "webp", "tif")
    return image.size[::-1] if turned else image.size


def stated_size(image: OddImage) -> tuple[int, int]:
    width, height = loaded_size(image)
    return {"swapped": (height, width), "size": (width + 1, height)}.get(
        image.damage, (width, height)
    )


@st.composite
def datasets(draw: DrawFn) -> OddDataset:
    """Draw a data set of either format."""
    form = draw(st.sampled_from(["coco", "voc"]))
    broken = draw(st.sampled_from([False] * 4 + [True]))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    listed = draw(st.sampled_from(["none", "all", "all", "reversed", "first"]))
    classes = {"none": None, "reversed": names[::-1], "first": names[:1]}.get(listed, names)
    splits = [_draw_split(draw, form, split, names, broken, classes) for split in ("train", "test")]
    # Every class has a box in each split, or few data sets would be usable.
    entry = {
        "classes": classes,
        "image_size": draw(st.sampled_from([[64, 64], [96, 64], *([[40, 30]] if broken else [])])),
        "metric": draw(st.sampled_from(["coco", "voc"])),
    }
    return OddDataset(form, broken, names, splits[0], splits[1], entry)


def _draw_split(
    draw: DrawFn, form: str, split: str, names: list[str], broken: bool, classes: Any
) -> OddSplit:
    count = draw(st.integers(1, 4))
    whole = form == "voc" or draw(st.booleans())
    images = []
    for index in range(count):
        size = draw(st.sampled_from([*SIZES, (2, 300)] if broken else SIZES))
        prefix = draw(st.sampled_from(FILES)) if form == "coco" else ""
        name = f"{prefix}{index}" if form == "coco" else voc.draw_name(draw, index)
        kind = draw(st.sampled_from(SOUND))
        image = OddImage(name, kind, size, seed=1000 * (split == "test") + index)
        image.orientation = draw(st.sampled_from([1] * 6 + [*range(2, 9)]))
        if broken and draw(st.booleans()):
            image.damage = draw(st.sampled_from(DAMAGE))
        if index and draw(st.integers(0, 9)) == 0:  # the same picture again
            image.seed, image.form, image.size = images[0].seed, images[0].form, images[0].size
            image.orientation = images[0].orientation
        boxes = draw(st.integers(0, 3)) if index else 2
        for _ in range(boxes):
            name = draw(st.sampled_from(names))
            box = draw_box(draw, stated_size(image), whole)
            image.boxes.append((name, box, _draw_marks(draw, form)))
        if index == 0:
            width, height = stated_size(image)
            box = [0.0, 0.0, float(max(width // 2, 1)), float(max(height // 2, 1))]
            image.boxes += [(name, box, {}) for name in names]
        images.append(image)
    options = voc.draw_options(draw) if form == "voc" else _draw_options(draw, names, broken)
    return OddSplit(images, options)


def _draw_marks(draw: DrawFn, form: str) -> dict[str, Any]:
    if form == "voc":
        return draw(st.sampled_from([{}, {}, {"difficult": 1}, {"difficult": 0}, {"part": True}]))
    return draw(
        st.sampled_from(
            [
                *({}, {}, {}, {}, {"iscrowd": 1}, {"iscrowd": True}, {"ignore": 1}, {"ignore": 0}),
                *({"ignore": None}, {"ignore": True, "iscrowd": 1}, {"area": 0}, {"area": 1e8}),
                *({"segmentation": []}, {"segmentation": [[0, 0, 9, 0, 9, 9]]}, {"difficult": 1}),
            ]
        )
    )


def _draw_options(draw: DrawFn, names: list[str], broken: bool) -> dict[str, Any]:
    ids = [*("one", "zero", "huge", "negative", "shuffled") * 3]
    if broken:
        ids += ["text", "repeated"]
    return {
        "ids": draw(st.sampled_from(ids)),
        "reversed": draw(st.booleans()),
        "root": draw(st.sampled_from(["", "", "root", "doubled"])),
        "extra": draw(st.sampled_from([{}, {"name": 8}, {"img_id": 3}, {"license": None}])),
        "images first": draw(st.booleans()),
        "units": draw(st.sampled_from(["", "", "fractions"] if broken else [""])),
        "ascii": draw(st.booleans()),
    }


def write(odd: OddDataset, root: Path) -> Dataset:
    """Write a data set below ``root`` and return its entry."""
    if odd.form == "voc":
        voc.write(odd, root)
        splits: dict[str, Any] = {
            split: voc.image_sets(getattr(odd, split), split) for split in ("train", "test")
        }
    else:
        for split in ("train", "test"):
            _write_coco(getattr(odd, split), odd.names, root, split)
        splits = {
            split: {"annotations": f"{split}.json", "images": f"{split} é"}
            for split in ("train", "test")
        }
    values = {"format": odd.form, "root": str(root), **splits, **odd.entry}
    return Dataset.parse(values, "odd")


def _write_coco(split: OddSplit, names: list[str], root: Path, name: str) -> None:
    options = split.options
    number = {
        "zero": lambda i: i,
        "huge": lambda i: 2**53 + i,
        "negative": lambda i: -5 - i,
        "shuffled": lambda i: (i * 7 + 3) % 1009,
        "text": lambda i: f"id{i}",
        "repeated": lambda i: i // 2,
    }.get(options["ids"], lambda i: i + 1)
    categories = [
        {"id": number(i + 10), "name": name, "supercategory": "everything"}
        for i, name in enumerate(names)
    ]
    if options["root"]:
        title = names[-1] if options["root"] == "doubled" else "everything"
        for each in categories:
            each["supercategory"] = title
        categories.insert(0, {"id": number(0), "name": title, "supercategory": "none"})
    ids = {each["name"]: each["id"] for each in categories}
    if options["reversed"]:
        categories.reverse()
    images, annotations = [], []
    for index, image in enumerate(split.images):
        suffix = "." + image.form.partition("-")[0]
        file = f"{image.name}{suffix}"
        width, height = stated_size(image)
        images.append(
            {"id": number(index + 20), "width": width, "height": height, "file_name": file}
            | options["extra"]
        )
        for kind, box, marks in image.boxes:
            annotations.append(
                {
                    "id": number(len(annotations) + 40),
                    "image_id": number(index + 20),
                    "category_id": ids[kind],
                    "bbox": _in_units(box, options["units"], (width, height)),
                    "area": box[2] * box[3],
                    **marks,
                }
            )
        write_image(image, root / f"{name} é" / file)
    if not options["images first"]:
        annotations.reverse()
    content = {"categories": categories, "images": images, "annotations": annotations}
    text = json.dumps(content, ensure_ascii=options["ascii"])
    (root / f"{name}.json").write_text(text, encoding="utf-8")


def _in_units(box: list[float], units: str, size: tuple[int, int]) -> list[float]:
    x, y, w, h = box
    if units == "fractions":
        return [x / size[0], y / size[1], w / size[0], h / size[1]]
    return box


def write_image(image: OddImage, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.damage != "missing":
        path.write_bytes(image_bytes(image))
