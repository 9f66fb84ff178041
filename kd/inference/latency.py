"""Latency of detectors: the time from resized images to boxes, measured in turn."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.progress import progress
from kd.common.timing import synchronize
from kd.config.composed import ComposedConfig, read_config
from kd.data.builtin import shapes
from kd.data.decoding import load
from kd.data.entry import Shapes
from kd.data.sampling import build_dataset
from kd.inference.detector import Image, ReadyDetector
from kd.inference.loading import is_run
from kd.records.latency import BatchLatency

MOST_IMAGES = 16
"""Different images that the batches are composed of."""
DRAWN_SIDE = 256
P95 = 95


class LatencyExtent(NamedTuple):
    """LatencyExtent of a measurement."""

    batches: Sequence[int]
    """Batch sizes, measured one after the other."""
    iterations: int
    """Measured batches of each detector and batch size."""
    warm_up: int
    """Batches before, which are not measured."""


class LatencyTimes(NamedTuple):
    """Milliseconds of each measured batch of a detector, in order."""

    prediction: list[float]
    preprocessing: list[float]


def measure(
    detectors: Mapping[str, ReadyDetector], images: Sequence[Image], extent: LatencyExtent
) -> dict[str, dict[int, LatencyTimes]]:
    """Return the times of each detector by batch size.

    The detectors run in turn, one batch of each in every round, so that a drift of the machine's
    speed does not favor one of them; the round begins with another detector each time. All see the
    same images, stretched to their size. A GPU is synchronized before and after each part.
    """
    inputs = {name: _stretched(images, one.size) for name, one in detectors.items()}
    times = {name: {batch: LatencyTimes([], []) for batch in extent.batches} for name in detectors}
    rounds = [*_rounds(extent)]
    names = [*detectors]
    for batch, number in progress(rounds, len(rounds), "rounds"):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            batch_images = [inputs[name][(number * batch + i) % len(images)] for i in range(batch)]
            preprocessing, prediction = _timed(detectors[name], batch_images)
            if number >= extent.warm_up:
                times[name][batch].preprocessing.append(preprocessing)
                times[name][batch].prediction.append(prediction)
    return times


def summarize(times: Mapping[int, LatencyTimes]) -> tuple[BatchLatency, ...]:
    """Return medians and the 95th percentile of a detector's times by batch size."""
    return tuple(
        BatchLatency(
            batch,
            float(np.median(one.prediction)),
            float(np.percentile(one.prediction, P95)),
            float(np.median(one.preprocessing)),
            len(one.prediction),
        )
        for batch, one in sorted(times.items())
    )


def measured_images(sources: Sequence[Path]) -> tuple[list[Image], str]:
    """Return images to measure on, and their origin: of the first run whose test images exist.

    Without such a run they are drawn, as those of the built-in data set.
    """
    for source in sources:
        if is_run(source):
            try:
                images = _test_images(source)
            except (UserError, OSError):
                continue
            name = read_json(source / "run.json")["dataset"]
            return images, f"{len(images)} test images of {name}"
    settings = Shapes(train=1, test=MOST_IMAGES, size=DRAWN_SIDE)
    scenes = [shapes.draw(settings, "test", index).image for index in range(MOST_IMAGES)]
    return [np.asarray(scene) for scene in scenes], f"{MOST_IMAGES} drawn images"


def _test_images(run: Path) -> list[Image]:
    """Return images that are spread evenly over the test split of a run."""
    dataset = build_dataset(ComposedConfig(read_config(run)).loader("test")["dataset"])
    count = min(MOST_IMAGES, len(dataset))
    indices = np.linspace(0, len(dataset) - 1, count).astype(int).tolist()
    return [load(Path(dataset.get_data_info(index)["img_path"])) for index in indices]


def _stretched(images: Sequence[Image], size: tuple[int, int]) -> list[Image]:
    """Return images in exactly a size, width and height, the largest that the network sees."""
    try:
        return [np.asarray(cv2.resize(image, size), dtype=np.uint8) for image in images]
    except cv2.error:
        width, height = size
        raise UserError(
            f"--size {width},{height}: {len(images)} images of this size do not fit into the "
            "memory; give a smaller one"
        ) from None


def _rounds(extent: LatencyExtent) -> Iterator[tuple[int, int]]:
    """Yield the batch size and the number of each round, from 0."""
    for batch in extent.batches:
        for number in range(extent.warm_up + extent.iterations):
            yield batch, number


def _timed(detector: ReadyDetector, images: Sequence[Image]) -> tuple[float, float]:
    """Return the milliseconds of preprocessing and of prediction."""
    synchronize()
    start = time.perf_counter()
    batch: Any = detector.prepare(images)
    synchronize()
    between = time.perf_counter()
    detector.predict(batch)
    synchronize()
    end = time.perf_counter()
    return 1000 * (between - start), 1000 * (end - between)
