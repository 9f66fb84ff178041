"""Detections in images and videos of a user: pictures, and COCO files."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from kd.common.errors import UserError
from kd.common.files import replacing
from kd.common.progress import progress
from kd.data.decoding import load, silence_opencv
from kd.data.image_files import fitted_size
from kd.inference import videos
from kd.inference.detector import Image, ImageDetections, ReadyDetector
from kd.inference.pictures import draw
from kd.inference.results import ResultsFolder, Totals
from kd.inference.videos import Frame, Video
from kd.records.provenance import environment

JPEG_QUALITY = 90
AHEAD = 2
"""Images for each loading thread that are read before they are needed."""


class Settings(NamedTuple):
    """Settings of ``kd infer``."""

    score: float
    """Least score of the detections in pictures."""
    batch: int
    """Images that the network computes together."""
    workers: int
    """Threads that read images; 0: read them between two batches."""


class Summary(NamedTuple):
    """Result of ``infer``."""

    totals: Totals
    skipped: int
    """Images and videos that an earlier start had finished."""
    failures: list[str]
    """A line for each image or video that could not be read completely."""


def infer(detector: ReadyDetector, results: ResultsFolder, settings: Settings) -> Summary:
    """Write pictures and detections of all sources of a folder of results.

    An image or video that cannot be read is printed on stderr and left out. Images are turned by
    their EXIF orientation, as in training, and so are their boxes.
    """
    silence_opencv()
    sources, failures = results.sources, list[str]()
    images = [path for path in sources.images if not results.is_finished(path)]
    films = [path for path in sources.videos if not results.is_finished(path)]
    headers = dict(_headers(films, failures))
    skipped = len(sources.images) + len(sources.videos) - len(images) - len(films)
    films_read = (
        _video(detector, results, path, header, settings, failures)
        for path, header in headers.items()
    )
    steps = chain(
        _images(detector, results, images, settings, failures), chain.from_iterable(films_read)
    )
    total = len(images) + sum(header.frames for header in headers.values())
    for _ in progress(steps, total, "images"):
        pass
    totals = results.write_coco(detector.classes)
    counts = {**totals._asdict(), "skipped": skipped, "failures": failures}
    results.finish({**counts, **environment()})
    return Summary(totals, skipped, failures)


def _images(
    detector: ReadyDetector,
    results: ResultsFolder,
    paths: Sequence[Path],
    settings: Settings,
    failures: list[str],
) -> Iterator[None]:
    """Detect objects in image files and write their pictures; yield once for each file."""
    loaded = _loaded(paths, detector.size, settings.workers)
    while batch := list(islice(loaded, settings.batch)):
        readable: list[tuple[Path, Image]] = []
        for path, image in batch:
            if isinstance(image, UserError):
                _report(failures, image)
            else:
                readable.append((path, image))
        detections = detector.detect([image for _, image in readable])
        for (path, image), detected in zip(readable, detections, strict=True):
            picture = draw(image, detected, detector.classes, settings.score)
            with replacing(results.picture(path), synced=False) as temporary:
                picture.save(temporary, "JPEG", quality=JPEG_QUALITY)
            results.add_image(path, (image.shape[1], image.shape[0]), detected)
        yield from [None] * len(batch)


def _video(
    detector: ReadyDetector,
    results: ResultsFolder,
    path: Path,
    header: Video,
    settings: Settings,
    failures: list[str],
) -> Iterator[None]:
    """Detect objects in the frames of a video and write it with boxes; yield for each frame.

    A damaged video does not count as finished.
    """
    failed_before = len(failures)
    frames = _until_damaged(videos.frames(path, header), failures)
    with videos.writing(results.picture(path), header.rate) as writer:
        while batch := list(islice(frames, settings.batch)):
            detections = detector.detect([frame.image for frame in batch])
            for frame, detected in zip(batch, detections, strict=True):
                writer.add(draw(frame.image, detected, detector.classes, settings.score))
                _add_frame(results, path, frame, detected)
            yield from [None] * len(batch)
    if len(failures) == failed_before:
        results.end_video(path)


def _add_frame(
    results: ResultsFolder, path: Path, frame: Frame, detections: ImageDetections
) -> None:
    height, width = frame.image.shape[:2]
    results.add_frame(path, frame.number, frame.seconds, (width, height), detections)


def _until_damaged(frames: Iterator[Frame], failures: list[str]) -> Iterator[Frame]:
    """Yield frames; report the error of a damaged video, whose readable frames remain."""
    try:
        yield from frames
    except UserError as error:
        _report(failures, error)


def _headers(paths: Sequence[Path], failures: list[str]) -> Iterator[tuple[Path, Video]]:
    """Yield the header of each video that can be opened; report the others."""
    for path in paths:
        try:
            yield path, videos.read_header(path)
        except UserError as error:
            _report(failures, error)


def _loaded(
    paths: Sequence[Path], size: tuple[int, int], workers: int
) -> Iterator[tuple[Path, Image | UserError]]:
    """Yield images in order, or the error of each; threads read some of them ahead."""
    if not workers:
        yield from ((path, _load(path, size)) for path in paths)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Path, Future[Image | UserError]]] = deque()
        for path in paths:
            waiting.append((path, pool.submit(_load, path, size)))
            if len(waiting) > AHEAD * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        yield from ((path, future.result()) for path, future in waiting)


def _load(path: Path, size: tuple[int, int]) -> Image | UserError:
    """Return the image of a file as training reads it, or the error that prevents it."""
    try:
        image = np.ascontiguousarray(load(path))
    except UserError as error:
        return error
    height, width = image.shape[:2]
    if min(fitted_size((width, height), size)) < 1:
        return UserError(
            f"{path}: the short side of {width} x {height} pixels vanishes when the image is "
            f"resized to {size[0]} x {size[1]}; cut it into parts"
        )
    return image


def _report(failures: list[str], error: UserError) -> None:
    """Print the error of a source, above the bar of a terminal, and collect it."""
    failures.append(str(error))
    tqdm.write(f"error: {error}", file=sys.stderr)
