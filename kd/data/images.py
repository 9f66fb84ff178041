"""Looking into image files: can they be read, have they the size stated, are they copies."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from kd.data.progress import progress
from kd.data.scan import Problem, Scan, bytes_of, size_of

# What Pillow calls the formats that OpenCV, with which mmdet loads images, can read too.
READABLE = {"BMP", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP"}
ORIENTATION, TURNED = 0x0112, {5, 6, 7, 8}  # the EXIF tag, and its values that swap the sides


def bad_images(scan: Scan, what: str) -> Iterator[Problem]:
    """Yield every image of a split that is absent, unreadable, or not of its stated size."""
    # Threads: Pillow decodes outside the interpreter's lock.
    with ThreadPoolExecutor(_cores()) as pool:
        faults = pool.map(_fault, scan.paths, scan.images)
        together = zip(scan.paths, faults, strict=True)
        for path, fault in progress(together, len(scan.paths), what):
            if fault:
                yield Problem(str(path), fault)


def _cores() -> int:
    """Return the number of cores this job may use, which a scheduler may have made few."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _fault(path: Path, record: dict[str, int]) -> str | None:
    """Decode one image completely and say what is wrong with it."""
    size = size_of(path)
    if size <= 0:
        return "no such image" if size < 0 else "the image file is empty"
    try:
        with Image.open(path) as image:
            image.load()
            kind, written = image.format, image.size
            turned = image.getexif().get(ORIENTATION) in TURNED
    except Exception as error:  # Pillow's decoders raise many kinds
        return f"the image cannot be read: {error}"
    if kind not in READABLE:
        return f"OpenCV cannot read images of the format {kind}"
    stated = (record["width"], record["height"])
    loaded = written[::-1] if turned else written
    if loaded != stated:
        by = " (turned by its EXIF orientation)" if turned else ""
        return f"the image has {_sides(loaded)} pixels{by}, its annotation says {_sides(stated)}"
    return None


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def shared_images(train: Scan, test: Scan) -> Iterator[Problem]:
    """Yield every test image whose bytes are a training image's; hash only where sizes agree."""
    shared = {size for size in train.sizes if size > 0}.intersection(test.sizes)
    known: dict[bytes, Path] = {}
    for path in _of_sizes(train, shared):
        known.setdefault(_digest(path), path)
    for path in _of_sizes(test, shared):
        twin = known.get(_digest(path))
        if twin is not None:
            where = "also" if twin == path else f"as {twin}"
            yield Problem(str(path), f"this test image is in the training split {where}")


def _of_sizes(scan: Scan, wanted: set[int]) -> Iterator[Path]:
    return (path for path, size in zip(scan.paths, scan.sizes, strict=True) if size in wanted)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(bytes_of(path)).digest()
