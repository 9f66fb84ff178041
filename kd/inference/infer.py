"""Detections in images and videos of a user: pictures, and COCO files."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

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
"""Images for each thread that are read before, and written after, the network runs on them."""
Result = TypeVar("Result")


class Settings(NamedTuple):
    """Settings of ``kd infer``."""

    score: float
    """Least score of the detections in pictures."""
    batch: int
    """Images that the network computes together."""
    workers: int
    """Threads that read images and write pictures while the network runs; 0: none."""


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
    ahead = AHEAD * settings.workers
    with _Workers(settings.workers) as workers:
        loads = workers.in_order((partial(_load, path, detector.size) for path in paths), ahead)
        loaded = zip(paths, loads, strict=True)
        writing: deque[Future[None]] = deque()
        while batch := list(islice(loaded, settings.batch)):
            readable: list[tuple[Path, Image]] = []
            for path, image in batch:
                if isinstance(image, UserError):
                    _report(failures, image)
                else:
                    readable.append((path, image))
            detections = detector.detect([image for _, image in readable])
            for (path, image), detected in zip(readable, detections, strict=True):
                call = partial(_write, detector, results, path, image, detected, settings.score)
                writing.append(workers.submit(call))
            while len(writing) > ahead:
                writing.popleft().result()
            yield from [None] * len(batch)
        for future in writing:
            future.result()


def _write(
    detector: ReadyDetector,
    results: ResultsFolder,
    path: Path,
    image: Image,
    detections: ImageDetections,
    score: float,
) -> None:
    """Write the picture of an image, then record its detections."""
    picture = draw(image, detections, detector.classes, score)
    with replacing(results.picture(path), synced=False) as temporary:
        picture.save(temporary, "JPEG", quality=JPEG_QUALITY)
    results.add_image(path, (image.shape[1], image.shape[0]), detections)


class _Workers:
    """Threads that run calls, or none: then a call runs when it is submitted."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count) if count else None

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, call: Callable[[], Result]) -> Future[Result]:
        """Run a call in a thread, or now."""
        if self._pool:
            return self._pool.submit(call)
        future: Future[Result] = Future()
        future.set_result(call())
        return future

    def in_order(self, calls: Iterable[Callable[[], Result]], ahead: int) -> Iterator[Result]:
        """Yield the results of calls in their order; at most ``ahead`` run before they are read."""
        waiting: deque[Future[Result]] = deque()
        for call in calls:
            waiting.append(self.submit(call))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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
