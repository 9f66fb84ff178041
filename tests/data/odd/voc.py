"""VOC layouts with oddities of real ones: see ``tests.data.odd.data_sets``."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

PREFIXES = ["", "2007_", "ä", "img.v2.", "人", "sub/"]
SUFFIXES = ["", "upper", "long"]
ENCODINGS = ["utf-8", "utf-16", "doctype"]
OBJECT = (
    "<object><name>{name}</name>{difficult}<bndbox>{corners}</bndbox>"
    "{part}<truncated>1</truncated></object>"
)
PART = (
    "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4.5</xmax><ymax>4</ymax>"
    "</bndbox></part>"
)


def draw_name(draw: DrawFn, index: int) -> str:
    return f"{draw(st.sampled_from(PREFIXES))}{index}"


def draw_options(draw: DrawFn) -> dict[str, Any]:
    return {
        "two sets": draw(st.booleans()),
        "suffix": draw(st.sampled_from(SUFFIXES)),
        "encoding": draw(st.sampled_from(ENCODINGS)),
        "no size": draw(st.sampled_from([False, False, True])),
        "line end": draw(st.sampled_from(["\n", "\r\n"])),
        "float": draw(st.booleans()),
    }


def image_sets(split: Any, name: str) -> list[str]:
    return [f"A/{name}", f"B/{name}"] if split.options["two sets"] else [f"A/{name}"]


def write(odd: Any, root: Path) -> None:
    for split in ("train", "test"):
        _write_split(getattr(odd, split), root, split)


def _write_split(split: Any, root: Path, name: str) -> None:
    from tests.data.odd.data_sets import write_image

    lists: dict[str, list[str]] = {
        folder.partition("/")[0]: [] for folder in image_sets(split, name)
    }
    folders = list(lists)
    for index, image in enumerate(split.images):
        folder = folders[index % len(folders)]
        image_id = f"{image.name}{name[1]}"
        lists[folder].append(image_id)
        suffix = _suffix(image.form.partition("-")[0], split.options["suffix"])
        write_image(image, root / folder / "JPEGImages" / f"{image_id}{suffix}")
        page = root / folder / "Annotations" / f"{image_id}.xml"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_bytes(_page(image, split.options))
    for folder, names in lists.items():
        path = root / folder / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(f"{line}{split.options['line end']}" for line in names).encode())
        (root / folder / "JPEGImages").mkdir(parents=True, exist_ok=True)


def _suffix(kind: str, option: str) -> str:
    if option == "upper":
        return f".{kind.upper()}"
    return ".jpeg" if option == "long" and kind == "jpg" else f".{kind}"


def _page(image: Any, options: dict[str, Any]) -> bytes:
    from tests.data.odd.data_sets import stated_size

    width, height = stated_size(image)
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    objects = "".join(_object(*box, options["float"]) for box in image.boxes)
    text = f"<annotation>{'' if options['no size'] else size}{objects}</annotation>"
    if options["encoding"] == "utf-16":
        return f'<?xml version="1.0" encoding="UTF-16"?>{text}'.encode("utf-16")
    if options["encoding"] == "doctype":
        text = f'<?xml version="1.0"?><!DOCTYPE annotation>{text}'
    return text.encode()


def _object(name: str, box: list[float], marks: dict[str, Any], as_float: bool) -> str:
    x, y, w, h = box
    values = [x + 1, y + 1, x + 1 + w, y + 1 + h]
    corners = "".join(
        f"<{key}>{value + 0.4 if as_float else int(value)}</{key}>"
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True)
    )
    difficult = f"<difficult>{marks['difficult']}</difficult>" if "difficult" in marks else ""
    part = PART if marks.get("part") else ""
    return OBJECT.format(name=name, difficult=difficult, corners=corners, part=part)
