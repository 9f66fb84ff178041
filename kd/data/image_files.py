"""Checks of image files: that they load, have the annotated size, and are in one split only."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from kd.common.progress import progress
from kd.data.decoding import SWAPPED, Header, decode, explain_failure, read_header, silence_opencv
from kd.data.entry import SplitName
from kd.data.scan import Problem, Record, Scan, bytes_of, size_of


class ImageCheck(NamedTuple):
    """Result of comparing an image file with its record."""

    fault: str | None
    """Reason why training cannot use the image, or None."""
    doubtful: bool
    """If true, OpenCV turns or mirrors the image, and its boxes may or may not be turned, too."""


def check_images(
    scan: Scan, image_size: tuple[int, int], title: str
) -> tuple[list[Problem], list[Problem]]:
    """Decode every image of a split and return errors and notes.

    An image is an error if it is absent, cannot be decoded by the training loader, has another size
    than its annotation, or has no pixel left when it is resized into ``image_size``, width and
    height in pixels. Images that loading turns are notes. A file with several names (hard links)
    is decoded once. ``title``: name of the progress bar.
    """
    silence_opencv()
    errors: list[Problem] = []
    doubtful: list[Path] = []
    # Threads suffice because OpenCV decodes outside of the interpreter's lock.
    files = [_identity(path) for path in scan.paths]
    distinct = dict(zip(files, scan.paths, strict=True))
    with ThreadPoolExecutor(_cores()) as pool:
        results = progress(pool.map(_decode_file, distinct.values()), len(distinct), title)
        decoded = dict(zip(distinct, results, strict=True))
        for file, path, image in zip(files, scan.paths, scan.images, strict=True):
            result = _check_image(decoded[file], image, image_size)
            if result.fault:
                errors.append(Problem(str(path), result.fault))
            elif result.doubtful:
                doubtful.append(path)
    return errors, list(_note_turned(doubtful))


def _note_turned(paths: list[Path]) -> Iterator[Problem]:
    if paths:
        yield Problem(
            str(paths[0]),
            f"{len(paths)} images (this is the first) are turned or mirrored by their EXIF "
            "orientation when they are loaded, but their boxes are not; remove the tag if the "
            "boxes were annotated on the stored images",
        )


def _cores() -> int:
    """Return the number of cores that the scheduler lets this process use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _identity(path: Path) -> object:
    """Return the same value for all names of a file with hard links, and the path of others."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return path
    return (status.st_dev, status.st_ino) if status.st_nlink > 1 else path


class DecodedFile(NamedTuple):
    """Width and height of a decoded image in pixels, and its header; or the fault of its file."""

    size: tuple[int, int]
    header: Header
    fault: str | None = None


def _decode_file(path: Path) -> DecodedFile:
    """Decode an image completely."""
    size = size_of(path)
    if size <= 0:
        return _faulty("no such image" if size < 0 else "the image file is empty")
    data = bytes_of(path)
    image = decode(data)
    if image is None:
        return _faulty(explain_failure(data))
    header = read_header(data) or Header(image.shape[1], image.shape[0], 1)
    return DecodedFile((image.shape[1], image.shape[0]), header)


def _faulty(fault: str) -> DecodedFile:
    return DecodedFile((0, 0), Header(0, 0, 1), fault)


def _check_image(file: DecodedFile, record: Record, image_size: tuple[int, int]) -> ImageCheck:
    """Compare a decoded image with its record."""
    if file.fault:
        return ImageCheck(file.fault, False)
    header = file.header
    fault = _fault_of_size(file.size, record, header) or _fault_of_resizing(file.size, image_size)
    # A quarter turn swaps the sides, so the annotated size shows which image was annotated.
    is_size_decisive = header.orientation in SWAPPED and header.width != header.height
    return ImageCheck(fault, header.orientation != 1 and not is_size_decisive)


def _fault_of_size(loaded: tuple[int, int], record: Record, header: Header) -> str | None:
    annotated = (record["width"], record["height"])
    if loaded == annotated:
        return None
    by = " (turned by its EXIF orientation)" if header.orientation in SWAPPED else ""
    return f"the image has {_sides(loaded)} pixels{by}, but its annotation has {_sides(annotated)}"


def _fault_of_resizing(loaded: tuple[int, int], image_size: tuple[int, int]) -> str | None:
    """Return the fault of an image so long that its short side is resized to 0 pixels."""
    if min(fitted_size(loaded, image_size)) >= 1:
        return None
    return (
        f"the short side of the image, {_sides(loaded)} pixels, has no pixel left after resizing "
        f"into {_sides(image_size)}; remove the image, or make 'image_size' larger"
    )


def fitted_size(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of an image resized to fit, as mmcv's ``rescale_size`` does."""
    factor = min(max(into) / max(size), min(into) / min(size))
    return int(size[0] * factor + 0.5), int(size[1] * factor + 0.5)


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


SPLIT_TITLES: dict[SplitName, str] = {"train": "training", "test": "test", "val": "validation"}
"""Names of splits in messages."""


def shared_images(
    scans: Mapping[SplitName, Scan], first: SplitName, second: SplitName
) -> Iterator[Problem]:
    """Yield every image of a second split that equals one of a first; hash files of equal size."""
    sizes = {size for size in scans[first].sizes if size > 0}.intersection(scans[second].sizes)
    paths_by_digest: dict[bytes, Path] = {}
    for path in _of_sizes(scans[first], sizes):
        paths_by_digest.setdefault(_digest(path), path)
    for path in _of_sizes(scans[second], sizes):
        twin = paths_by_digest.get(_digest(path))
        if twin is not None:
            where = "also" if twin == path else f"as {twin}"
            yield Problem(
                str(path),
                f"this {SPLIT_TITLES[second]} image is in the {SPLIT_TITLES[first]} split {where}; "
                "remove one of the two",
            )


def copies(scan: Scan) -> list[list[int]]:
    """Return the positions of the images of a split, those of equal files together."""
    repeated = {size for size, count in Counter(scan.sizes).items() if count > 1 and size > 0}
    groups: dict[object, list[int]] = {}
    for position, (path, size) in enumerate(zip(scan.paths, scan.sizes, strict=True)):
        groups.setdefault(_digest(path) if size in repeated else position, []).append(position)
    return list(groups.values())


def _of_sizes(scan: Scan, sizes: set[int]) -> Iterator[Path]:
    return (path for path, size in zip(scan.paths, scan.sizes, strict=True) if size in sizes)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(bytes_of(path)).digest()
