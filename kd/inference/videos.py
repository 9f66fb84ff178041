"""Videos as images in RGB, frame by frame, and videos of pictures, with OpenCV."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image as PillowImage

from kd.common.errors import UserError
from kd.common.files import replacing
from kd.inference.detector import Image

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its lines about damaged files; ours suffice

CODEC = "mp4v"
"""MPEG-4 Part 2: the only codec for mp4 files that every build of OpenCV writes fast."""
DEFAULT_RATE = 25.0
"""Frames a second of a video that states none."""
FEWEST_READ = 0.95
"""Share of a video's stated frames; containers that only estimate the number are this close."""


class Frame(NamedTuple):
    """An image of a video, its number from 0, and its time."""

    image: Image
    number: int
    seconds: float


class Video(NamedTuple):
    """Facts of a video that its header states."""

    frames: int
    """Number of frames; 0 if it is not known."""
    rate: float
    """Frames a second."""


def read_header(path: Path) -> Video:
    """Return the facts of a video; UserError if OpenCV cannot decode its first frame."""
    with _opened(path) as capture:
        if not capture.read()[0]:
            raise UserError(
                f"{path}: the video has no frame that OpenCV can decode; convert it to mp4"
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if np.isfinite(rate) and rate > 0 else DEFAULT_RATE
        return Video(max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))), rate)


def frames(path: Path, header: Video) -> Iterator[Frame]:
    """Yield the frames of a video, turned as its rotation tag states.

    UserError at the end if the video has fewer frames than it states.
    """
    number = 0
    with _opened(path) as capture:
        while True:
            read, image = capture.read()
            if not read:
                break
            yield Frame(np.ascontiguousarray(image[:, :, ::-1]), number, number / header.rate)
            number += 1
    if number < FEWEST_READ * header.frames:
        raise UserError(
            f"{path}: the video ends after {number} of {header.frames} frames: it is damaged; "
            "copy or convert it again"
        )


class VideoWriter:
    """Writer of pictures of one size to an mp4 file, which appears when the block succeeds."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._writer: Any = None

    def add(self, picture: PillowImage.Image) -> None:
        """Write a picture; odd sizes lose a row or column, as the codec requires."""
        pixels = np.asarray(picture)[: picture.height // 2 * 2, : picture.width // 2 * 2, ::-1]
        if self._writer is None:
            size = pixels.shape[1], pixels.shape[0]
            code = cv2.VideoWriter.fourcc(*CODEC)
            self._writer = cv2.VideoWriter(str(self.path), cv2.CAP_FFMPEG, code, self.rate, size)
            if not self._writer.isOpened():
                raise UserError(f"{self.path}: OpenCV cannot write a video of {size} pixels here")
        self._writer.write(np.ascontiguousarray(pixels))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


@contextmanager
def writing(path: Path, rate: float) -> Iterator[VideoWriter]:
    """Yield a writer of an mp4 file, which is renamed to ``path`` when the block succeeds."""
    # OpenCV chooses the container by the suffix, so the temporary file needs that of ``path``.
    with replacing(path) as placeholder:
        temporary = placeholder.with_suffix(".mp4")
        writer = VideoWriter(temporary, rate)  # its file appears with the first picture
        try:
            yield writer
            writer.close()
            temporary.replace(placeholder)
        finally:
            writer.close()
            temporary.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UserError(
                f"{path}: the video cannot be read: it is damaged, or not in a format that OpenCV "
                "supports; convert it to mp4"
            )
        yield capture
    finally:
        capture.release()
