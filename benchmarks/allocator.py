"""Time of a training step on a CPU that keeps freed memory, and of one that releases it.

python benchmarks/allocator.py        RetinaNet, ResNet-18, one thread; two minutes

Two processes with the same model make steps in turn, on one batch. One keeps freed memory, as every
process that imports ``kd.runtime`` does; the other has glibc's defaults. The table has processor
time.
"""

import multiprocessing
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmarks.report import Line, arguments, publish
from kd.common.timing import quartiles, ratio

CASES = {"scale smoke, 8 images of 128 x 128": ("smoke", 8, 128, "r18-w0.25")} | {
    "full width, 2 images of 256 x 256": ("paper", 2, 256, "r18")
}


class Step(NamedTuple):
    """Time and page faults of a step."""

    seconds: float
    faults: int
    """Pages that the system had to map."""


def main() -> None:
    """Run the benchmark and print its table."""
    options = arguments(__doc__).parse_args()
    lines = []
    for what, case in CASES.items():
        with stepping(case, keeps=True) as keeping, stepping(case, keeps=False) as releasing:
            steps = [
                (_next_step(releasing), _next_step(keeping)) for _ in range(options.rounds + 1)
            ][1:]
        before, after = ([step.seconds for step in by_case] for by_case in zip(*steps, strict=True))
        details = {
            "given back, ms": 1000 * quartiles(before).median,
            "kept, ms": 1000 * quartiles(after).median,
            "pages mapped anew": quartiles([step.faults for step, _ in steps]).median,
            "and kept": quartiles([step.faults for _, step in steps]).median,
        }
        lines.append(Line(what, ratio(before, after), details=details))
    about = "A step that releases its memory over one that keeps it; one thread of a CPU."
    print(publish(options.name or "allocator", about, lines, options.before))


@contextmanager
def stepping(case: tuple[str, int, int, str], *, keeps: bool) -> Iterator[Connection]:
    """Start a process that makes a step for every message."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, case, keeps))
    process.start()
    try:
        yield here
    finally:
        here.send(False)
        process.join()


def _next_step(process: Connection) -> Step:
    process.send(True)
    return process.recv()


def _serve(pipe: Connection, case: tuple[str, int, int, str], keeps: bool) -> None:
    from kd.models import allocator

    if not keeps:
        allocator.keep_freed_memory = lambda: False
    import torch

    import kd.runtime  # noqa: F401

    torch.set_num_threads(1)
    step = _trained(*case)
    while pipe.recv():
        started, before = time.process_time(), _faults()
        step()
        pipe.send(Step(time.process_time() - started, _faults() - before))


def _trained(scale: str, images: int, side: int, backbone: str):  # type: ignore[no-untyped-def]
    """Return what makes a step of a composed run."""
    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope

    from benchmarks.step_time import random_batch
    from kd.config.compose import compose
    from kd.config.library import Library
    from kd.config.run import Run
    from kd.profiling.trainee import Trainee

    MMLogger.get_instance("benchmark", log_level="ERROR")
    init_default_scope("mmdet")
    library = Library()
    part = library.scale(scale, "benchmark")
    names = {"scale": scale, "detector": "retinanet", "student": backbone, "seed": 0}
    dataset, schedule = part.datasets.get("coco2017", "coco2017"), part.schedules.get("1x", "1x")
    run = Run(dataset=dataset, schedule=schedule, **names)
    trainee = Trainee.build(compose(run, {}, part, library, "benchmark"))
    data = random_batch(images, side, side)
    return lambda: trainee.step(data)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    main()
