"""Image files of a labeled folder: their sizes, faults, and groups of almost equal images."""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kd.common.progress import progress
from kd.data.decoding import (
    JPEG_START,
    SWAPPED,
    decode,
    explain_failure,
    read_header,
    silence_opencv,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

THUMBNAIL = 16
"""Sides of the gray thumbnails that are compared, in pixels."""
SAME_BITS = 3
"""Most bits by which the hashes of almost equal images differ."""
SAME_GRAY = 3.0
"""Largest mean difference of their thumbnails, of 255."""
BANDS = 4
JPEG_END = b"\xff\xd9"


class Picture(NamedTuple):
    """A decoded image file."""

    size: tuple[int, int]
    """Width and height in pixels, after the EXIF orientation."""
    stored_size: tuple[int, int]
    """Width and height before it."""
    thumbnail: "NDArray[np.uint8] | None"
    """Gray image ``(16, 16)``."""
    fault: str = ""
    """Reason why the image cannot be used, or empty."""

    @property
    def is_turned(self) -> bool:
        """True if the EXIF orientation swaps width and height."""
        return self.size != self.stored_size


def decode_pictures(paths: Sequence[Path]) -> dict[Path, Picture]:
    """Decode images in threads, with progress, as the training loader decodes them."""
    silence_opencv()
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    with ThreadPoolExecutor(workers) as pool:
        pictures = progress(pool.map(_decode, paths), len(paths), "reading images")
        return dict(zip(paths, pictures, strict=True))


def _decode(path: Path) -> Picture:
    import cv2

    try:
        data = path.read_bytes()
    except OSError as error:
        return Picture((0, 0), (0, 0), None, f"cannot be read: {error.strerror}")
    if not data:
        return Picture((0, 0), (0, 0), None, "the image file is empty")
    image = decode(data)
    if image is None:
        return Picture((0, 0), (0, 0), None, explain_failure(data))
    size = (image.shape[1], image.shape[0])
    header = read_header(data)
    stored = size[::-1] if header and header.orientation in SWAPPED else size
    if _is_truncated(data):
        return Picture(size, stored, None, "the JPEG file ends too early")
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return Picture(size, stored, cv2.resize(gray, (THUMBNAIL,) * 2, interpolation=cv2.INTER_AREA))  # type: ignore[arg-type]


def _is_truncated(data: bytes) -> bool:
    """Return True for a JPEG without an end marker, which OpenCV decodes with a gray rest.

    The marker of a small preview, which a file may contain, is in its first half.
    """
    return data.startswith(JPEG_START) and data.rfind(JPEG_END) < len(data) // 2


def alike(paths: Sequence[Path], pictures: dict[Path, Picture]) -> list[list[Path]]:
    """Return groups of two or more almost equal images, such as neighboring frames of a video.

    Two images are in a group if their difference hashes of 64 bits differ in at most 3 bits, and
    their thumbnails by at most 3 gray levels on average. Two such hashes have one of four bands
    of 16 bits in common, so only images with an equal band are compared.
    """
    thumbnails = [pictures[path].thumbnail for path in paths]
    decoded = [index for index, one in enumerate(thumbnails) if one is not None]
    hashes = {index: _hash(thumbnails[index]) for index in decoded}  # type: ignore[arg-type]
    leader = list(range(len(paths)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for band in range(BANDS):
        buckets: dict[int, list[int]] = defaultdict(list)
        for index in decoded:
            buckets[hashes[index] >> (16 * band) & 0xFFFF].append(index)
        for bucket in buckets.values():
            for position, first in enumerate(bucket):
                for second in bucket[position + 1 : position + 200]:
                    if find(first) != find(second) and _are_alike(
                        hashes[first] ^ hashes[second], thumbnails[first], thumbnails[second]
                    ):
                        leader[find(second)] = find(first)
    groups: dict[int, list[Path]] = defaultdict(list)
    for index, path in enumerate(paths):
        groups[find(index)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _hash(thumbnail: "NDArray[np.uint8]") -> int:
    """Return 64 bits: whether each of 8 x 8 cells is darker than its right neighbor."""
    cells = thumbnail.astype(np.float64).reshape(8, 2, 8, 2).mean(axis=(1, 3))
    darker = cells < np.roll(cells, -1, axis=1)
    return int.from_bytes(np.packbits(darker).tobytes(), "big")


def _are_alike(
    bits: int, first: "NDArray[np.uint8] | None", second: "NDArray[np.uint8] | None"
) -> bool:
    if bits.bit_count() > SAME_BITS or first is None or second is None:
        return False
    return float(np.abs(first.astype(np.int16) - second).mean()) <= SAME_GRAY
