"""Decoding of image files as the training loader decodes them.

mmdet's ``LoadImageFromFile`` reads the bytes of a file and calls OpenCV's ``imdecode`` with
``IMREAD_COLOR``: three channels of 8 bits, turned and mirrored by the EXIF orientation. OpenCV
limits an image to 2^30 pixels. Pillow's lower limit, a protection against attacks, is disabled here
so that both accept the same files.
"""

import io
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from kd.common.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Image.MAX_IMAGE_PIXELS = None

MOST_PIXELS = int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", 2**30))
ORIENTATION = 0x0112
"""The EXIF tag: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 turned by a quarter."""
SWAPPED = frozenset({5, 6, 7, 8})
TURNED_FORMATS = frozenset({"JPEG", "MPO", "PNG", "TIFF", "WEBP"})
"""Pillow's names of the formats whose orientation OpenCV 5 applies."""
JPEG_START = b"\xff\xd8\xff"


class Header(NamedTuple):
    """Size in pixels and orientation of an image file, read without decoding it."""

    width: int
    height: int
    orientation: int
    """The EXIF value that OpenCV applies; 1 if it applies none."""

    @property
    def loaded_size(self) -> tuple[int, int]:
        """Return width and height after OpenCV has turned the image."""
        size = self.width, self.height
        return size[::-1] if self.orientation in SWAPPED else size


def decode(data: bytes) -> "NDArray[np.uint8] | None":
    """Return an image (H, W, 3) in BGR, or None if OpenCV cannot decode the bytes."""
    import cv2

    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # type: ignore[return-value]
    except cv2.error:  # an empty file, or more pixels than OpenCV's limit
        return None


def load(path: Path) -> "NDArray[np.uint8]":
    """Return the image of a file (H, W, 3) in RGB; raise UserError if it cannot be loaded."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the image cannot be read: {error}") from None
    image = decode(data)
    if image is None:
        raise UserError(f"{path}: {explain_failure(data)}")
    return np.ascontiguousarray(image[:, :, ::-1])


def read_header(data: bytes) -> Header | None:
    """Return the header of an image file, or None if Pillow cannot read it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return Header(*_stored_size(image), _orientation(image, data))
    except Exception:  # Pillow's decoders raise many types
        return None


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height before any turn; Pillow's size of a TIFF is that after it."""
    if isinstance(image, TiffImageFile):
        return image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return image.size


def _orientation(image: Image.Image, data: bytes) -> int:
    """Return the orientation that OpenCV applies to an image that Pillow opened.

    Pillow's ``getexif`` would decode a whole PNG. It also reads XMP, which OpenCV ignores.
    """
    if image.format not in TURNED_FORMATS:
        return 1
    if isinstance(image, TiffImageFile):
        orientation = image.tag_v2.get(ORIENTATION, 1)
    else:
        exif = Image.Exif()
        exif.load(_png_exif(data) if image.format == "PNG" else image.info.get("exif", b""))
        orientation = exif.get(ORIENTATION, 1)
    return orientation if orientation in range(2, 9) else 1


def _png_exif(data: bytes) -> bytes:
    """Return the EXIF of a PNG file without decoding its pixels, which may precede it.

    A chunk consists of a length, a name, the content, and the CRC of name and content.
    """
    name = data.find(b"eXIf")
    if name < 4:
        return b""
    end = name + 4 + int.from_bytes(data[name - 4 : name], "big")
    is_complete = zlib.crc32(data[name:end]) == int.from_bytes(data[end : end + 4], "big")
    return data[name + 4 : end] if is_complete else b""


def explain_failure(data: bytes) -> str:
    """Return the reason why ``decode`` returns None, found by Pillow if possible."""
    header = read_header(data)
    if header is not None and header.width * header.height > MOST_PIXELS:
        return (
            f"the image has {header.width} x {header.height} pixels, more than the "
            f"{MOST_PIXELS} that OpenCV decodes; resize it"
        )
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, mode = image.format, image.mode
            image.load()
    except UnidentifiedImageError:
        return "the image cannot be read: it is not in a supported image format"
    except Exception as error:  # Pillow's decoders raise many types
        return f"the image cannot be read: {str(error) or type(error).__name__}"
    return (
        f"OpenCV, which loads images for training, cannot decode this {kind} file (mode {mode}): "
        "it is damaged, or OpenCV does not support the format; save it again as JPEG or as "
        "8-bit PNG"
    )


def silence_opencv() -> None:
    """Make OpenCV print no warnings about files that ``decode`` returns None for."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
