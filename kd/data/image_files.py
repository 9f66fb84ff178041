"""Checks of image files: can they be loaded, do they have the size stated, are they copies."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from kd.common.progress import progress
from kd.data.decoding import (
    SWAPPED,
    Header,
    decode,
    explain_failure,
    read_header,
    silence_opencv,
)
from kd.data.scan import Problem, Record, Scan, bytes_of, size_of


class Looked(NamedTuple):
    """The result of decoding one image file."""

    fault: str | None
    """Reason why training could not use the image."""
    doubtful: bool
    """OpenCV turns or mirrors the image, and its size does not show whether its boxes are, too."""


def check_images(
    scan: Scan, image_size: tuple[int, int], what: str
) -> tuple[list[Problem], list[Problem]]:
    """Decode every image of a split; return errors and notes.

    Errors: an image that is absent, that the training loader cannot decode, that does not have the
    size stated, or that has no pixel left when it is resized into ``image_size``, width and height
    in pixels. Notes: images that are turned when they are loaded.
    """
    silence_opencv()
    errors: list[Problem] = []
    doubtful: list[Path] = []
    # Threads: OpenCV decodes outside the interpreter's lock.
    with ThreadPoolExecutor(_cores()) as pool:
        sizes = [image_size] * len(scan.paths)
        results = pool.map(_look, scan.paths, scan.images, sizes)
        together = zip(scan.paths, results, strict=True)
        for path, looked in progress(together, len(scan.paths), what):
            if looked.fault:
                errors.append(Problem(str(path), looked.fault))
            elif looked.doubtful:
                doubtful.append(path)
    return errors, list(_note_turned(doubtful))


def _note_turned(paths: list[Path]) -> Iterator[Problem]:
    if paths:
        yield Problem(
            str(paths[0]),
            f"images that loading turns or mirrors by their EXIF orientation: {len(paths)}, this "
            "the first; boxes stay as annotated, so remove the tag where they were drawn on "
            "pictures as stored",
        )


def _cores() -> int:
    """Return the number of cores this job may use, which a scheduler may have made few."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _look(path: Path, record: Record, image_size: tuple[int, int]) -> Looked:
    """Decode one image completely and compare it with its record."""
    size = size_of(path)
    if size <= 0:
        return Looked("no such image" if size < 0 else "the image file is empty", False)
    data = bytes_of(path)
    image = decode(data)
    if image is None:
        return Looked(explain_failure(data), False)
    header = read_header(data) or Header(image.shape[1], image.shape[0], 1)
    loaded = (image.shape[1], image.shape[0])
    fault = _fault_of_size(loaded, record, header) or _fault_of_resizing(loaded, image_size)
    # The sides of a photograph that is turned by a quarter show which of the two was annotated.
    shown = header.orientation in SWAPPED and header.width != header.height
    return Looked(fault, header.orientation != 1 and not shown)


def _fault_of_size(loaded: tuple[int, int], record: Record, header: Header) -> str | None:
    stated = (record["width"], record["height"])
    if loaded == stated:
        return None
    by = " (turned by its EXIF orientation)" if header.orientation in SWAPPED else ""
    return f"the image has {_sides(loaded)} pixels{by}, its annotation says {_sides(stated)}"


def _fault_of_resizing(loaded: tuple[int, int], image_size: tuple[int, int]) -> str | None:
    """Name an image so long that its short side becomes 0 pixels, which OpenCV refuses."""
    if min(fitted_size(loaded, image_size)) >= 1:
        return None
    return (
        f"the image of {_sides(loaded)} pixels has no pixel left on its short side when it is "
        f"resized into {_sides(image_size)}; leave it out, or make 'image_size' larger"
    )


def fitted_size(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of an image resized into others, as mmcv's ``rescale_size`` does."""
    factor = min(max(into) / max(size), min(into) / min(size))
    return int(size[0] * factor + 0.5), int(size[1] * factor + 0.5)


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
