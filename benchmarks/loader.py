"""Time the training loader against bare decoding and resizing in as many processes, by part.

python benchmarks/loader.py        640 x 480 to 1067 x 800; two minutes on two CPU cores

Photograph-like JPEGs of COCO's size are generated. The loader is that of a composed run, for
batches of two as on each of eight GPUs; the bare one reads and resizes the same files with cv2,
shuffled alike, and hands nothing on. The process that takes the batches has a separate core, and
the workers of both share the others. Parts are processor time of one process.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import kd.runtime  # noqa: F401
from benchmarks import report
from kd.common.files import write_json
from kd.common.timing import Quartiles, quartiles, ratio
from kd.config import pipelines
from kd.data.loader import fast_loader
from kd.data.sampling import build_dataset

LEAST = 0.85
WIDTH, HEIGHT = 640, 480
SIZE = (1333, 800)
OBJECTS, CLASSES = 7, 80
QUALITY = 92


def main() -> None:
    """Run the benchmark and print its table."""
    options = _options()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    init_default_scope("mmdet")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bytes_each = photographs(folder, options.images)
        config = composed(folder, options.batch)
        consumer, *others = sorted(os.sched_getaffinity(0))
        workers = options.workers or max(len(others), 1)
        os.sched_setaffinity(0, others or [consumer])  # which processes started from here inherit
        loader = Endless(Runner.build_dataloader(fast_loader(config, workers)))
        next(loader.batches)  # starts the workers
        clock = Clock([process.pid or 0 for process in multiprocessing.active_children()])
        with Bare([*folder.glob("*.jpg")], workers) as bare:
            os.sched_setaffinity(0, [consumer])
            ours, theirs = _rates(loader, bare, clock, options)
        parts = _parts(config, options.images) | clock.parts()
    per_step = 1000 * options.batch / quartiles(ours).median
    details = {
        "images/s": quartiles(ours).median,
        "bare, images/s": quartiles(theirs).median,
        f"ms for {options.batch} images": per_step,
    }
    what = f"images/s of the loader / of bare decoding, {workers} worker{'s' * (workers > 1)}"
    lines = [report.Line(what, ratio(ours, theirs), least=LEAST, details=details)]
    lines += [report.Line(f"- {part}, ms of an image", value) for part, value in parts.items()]
    about = (
        f"{options.images} JPEGs of {WIDTH} x {HEIGHT}, {bytes_each // 1000} kB each, fitted into "
        f"{SIZE[0]} x {SIZE[1]}, on {multiprocessing.cpu_count()} CPUs ({report.processor()})."
    )
    note = (
        "A GPU waits for data where its step is shorter than the time that the loader takes for a "
        "batch: as many workers as there are CPUs give the rate above."
    )
    print(report.publish(options.name or "loader", about, lines, options.before, [note]))


def _options() -> argparse.Namespace:
    parser = report.arguments(__doc__)
    parser.set_defaults(rounds=7)
    parser.add_argument("--images", type=int, default=64, help="number of different image files")
    parser.add_argument("--workers", type=int, help="default: one on each core but the first")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="duration of each case in a round"
    )
    return report.parse(parser, rounds=1, images=8, workers=2, seconds=0.5)


# --- Data ----------------------------------------------------------------------------------


def photographs(folder: Path, count: int) -> int:
    """Write images of soft gradients and fine noise with their boxes; return their mean bytes."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(count):
        name = f"{index}.jpg"
        cv2.imwrite(str(folder / name), _photograph(rng), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        images.append({"id": index, "width": WIDTH, "height": HEIGHT, "file_name": name})
        for _ in range(OBJECTS):
            left, top = rng.uniform(0, 500), rng.uniform(0, 360)
            box = [left, top, *rng.uniform(10, 120, 2).tolist()]
            annotations.append(
                {"id": len(annotations), "image_id": index, "bbox": box, "area": box[2] * box[3]}
                | {"category_id": int(rng.integers(CLASSES)), "iscrowd": 0}
            )
    categories = [{"id": label, "name": str(label)} for label in range(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations.json", content)
    return sum(path.stat().st_size for path in folder.glob("*.jpg")) // count


def _photograph(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.full((HEIGHT, WIDTH, 3), 128.0)
    for across, down, start in rng.uniform(-0.05, 0.05, (6, 3)):
        wave = np.sin(across * x + down * y + 100 * start)[..., None]
        image += wave * rng.uniform(10, 40, 3)
    noise = rng.normal(0, 75, (HEIGHT, WIDTH, 3))
    return np.clip(image + cv2.GaussianBlur(noise, (0, 0), 1.0), 0, 255).astype(np.uint8)


def composed(folder: Path, batch: int) -> dict[str, Any]:
    """Return the part of a composed configuration about loading."""
    pipeline = pipelines.training("general", SIZE, [123.675, 116.28, 103.53])
    reader = {
        "type": "CocoImages",
        "data_root": str(folder),
        "ann_file": "annotations.json",
        "data_prefix": {"img": ""},
        "metainfo": {"classes": [str(label) for label in range(CLASSES)]},
        "filter_cfg": {"filter_empty_gt": True, "min_size": 1},
        "pipeline": pipeline,
    }
    return {
        "batch_size": batch,
        "sampler": {"type": "EpochSampler", "shuffle": True},
        "dataset": {"type": "SeededDataset", "seed": 0, "dataset": reader},
    }


# --- Two ways to load ----------------------------------------------------------------------


class Endless:
    """A loader's batches, epoch after epoch."""

    def __init__(self, loader: Any) -> None:
        self.batches = self._all(loader)

    def _all(self, loader: Any) -> Iterator[Any]:
        for epoch in range(1_000_000):
            loader.sampler.set_epoch(epoch)
            yield from loader

    def images(self, seconds: float) -> float:
        """Return how many images a second come."""
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            count += len(next(self.batches)["inputs"])
        return count / (time.perf_counter() - started)


class Bare:
    """Processes that read and resize files, and count them."""

    def __init__(self, paths: list[Path], workers: int) -> None:
        self.go = multiprocessing.Event()
        self.counts = [multiprocessing.Value("q", 0) for _ in range(workers)]
        self.processes = [
            multiprocessing.Process(target=self._work, args=(paths, number), daemon=True)
            for number in range(workers)
        ]

    def __enter__(self) -> "Bare":
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()

    def _work(self, paths: list[Path], number: int) -> None:
        rng = np.random.default_rng(number)
        while True:
            for index in rng.permutation(len(paths)):
                self.go.wait()
                bare_image(str(paths[index]))
                self.counts[number].value += 1

    def images(self, seconds: float) -> float:
        """Return the images per second."""
        before, started = self._count(), time.perf_counter()
        self.go.set()
        time.sleep(seconds)
        self.go.clear()
        return (self._count() - before) / (time.perf_counter() - started)

    def _count(self) -> int:
        return sum(counter.value for counter in self.counts)


def bare_image(path: str) -> np.ndarray:
    """Read an image and fit it into SIZE."""
    image = cv2.imread(path)
    factor = min(SIZE[0] / image.shape[1], SIZE[1] / image.shape[0])
    size = (int(image.shape[1] * factor + 0.5), int(image.shape[0] * factor + 0.5))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _rates(
    loader: Endless, bare: Bare, clock: "Clock", options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Return images/s by round; the loader's queues have equal lengths at both ends."""
    ours, theirs = [], []
    for number in range(options.rounds + 1):
        bare_rate = bare.images(options.seconds)
        loader.images(options.seconds / 3)  # what was loaded meanwhile
        clock.start()
        rate = loader.images(options.seconds)
        if number:
            clock.stop(images=rate * options.seconds)
            ours.append(rate)
            theirs.append(bare_rate)
    return ours, theirs


# --- Parts ---------------------------------------------------------------------------------


class Clock:
    """Milliseconds of processor time of an image, in the workers and in the process that takes."""

    def __init__(self, workers: list[int]) -> None:
        self.workers = workers
        """Process ids."""
        self.started = (0.0, 0.0)
        self.times: dict[str, list[float]] = {}

    def start(self) -> None:
        """Begin a round."""
        self.started = self._now()

    def stop(self, images: float) -> None:
        """End a round in which ``images`` were loaded."""
        names = ("all of a worker", "all of the process that takes the batches")
        for name, before, now in zip(names, self.started, self._now(), strict=True):
            self.times.setdefault(name, []).append(1000 * (now - before) / images)

    def parts(self) -> dict[str, Quartiles]:
        """Return the quartiles over rounds."""
        return {name: quartiles(values) for name, values in self.times.items()}

    def _now(self) -> tuple[float, float]:
        ticks = 0
        for worker in self.workers:
            # The name, in brackets, may have spaces; user and system time are fields 14 and 15.
            text = Path(f"/proc/{worker}/stat").read_text(encoding="utf-8")
            ticks += sum(map(int, text.rpartition(")")[2].split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def _parts(config: dict[str, Any], images: int) -> dict[str, Quartiles]:
    """Return the milliseconds of processor time that each transform takes."""
    dataset = build_dataset(fast_loader(config, 0)["dataset"]).dataset
    times: dict[str, list[float]] = {}

    def note(part: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = work()
        times.setdefault(part, []).append(1000 * (time.process_time() - started))
        return result

    for index in islice([*range(images)] * 3, 100):
        results = note("annotations", lambda index=index: dataset.get_data_info(index))
        path = results["img_path"]
        note("bare decoding and resizing", lambda path=path: bare_image(path))
        for step in dataset.pipeline.transforms:
            results = note(type(step).__name__, lambda step=step, results=results: step(results))
    return {part: quartiles(seconds) for part, seconds in times.items()}


if __name__ == "__main__":
    main()
