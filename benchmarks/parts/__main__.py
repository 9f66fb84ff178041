"""Time a step whose batch is computed in parts, over one that computes its batch at once.

python -m benchmarks.parts        RetinaNet alone and with RM and PFI; about three minutes

The networks are those of scale paper (ResNet-18, taught by ResNet-50), with random weights. The
images are those of scale smoke. Both kinds of steps run in turn on the same batches.
"""

import copy
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import kd.runtime  # noqa: F401
from benchmarks import report
from benchmarks.teacher_cache import random_weights
from kd.common.timing import quartiles, ratio, timed
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.data.builtin.shapes import generate
from kd.profiling.trainee import Trainee
from kd.training.parts.accumulation import Accumulation

DISTILLED = "rm+pfi"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = report.arguments(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--parts", type=int, default=4)
    options = parser.parse_args()
    MMLogger.get_instance("benchmark", log_level="ERROR")
    init_default_scope("mmdet")
    torch.set_num_threads(1)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for title, config in _configs(options.batch, Path(folder)).items():
            lines.append(_line(title, config, options.parts, options.rounds))
    about = (
        f"A step of {options.batch} images in {options.parts} parts over one at once; RetinaNet "
        f"with ResNet-18, taught by ResNet-50, images of 128 px; processor time, one thread, "
        f"{options.rounds} rounds."
    )
    print(report.publish(options.name or "accumulation", about, lines, options.before))


def _configs(batch: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the configurations of the student alone and distilled."""
    library = Library()
    configs = {}
    for method, title in ((None, "student alone"), (DISTILLED, DISTILLED)):
        small, large = (_run(scale, method, library) for scale in ("smoke", "paper"))
        entry = library.dataset(small.dataset, "benchmark")
        if entry.generate and not (Path(entry.root) / "generated.json").exists():
            generate(entry.generate, Path(entry.root))
        config = copy.deepcopy(small.config) | {"model": copy.deepcopy(large.config["model"])}
        config["train_dataloader"]["batch_size"] = batch
        if method:
            config["model"]["checkpoint"] = random_weights(config["model"]["teacher"], folder)
        configs[title] = config
    return configs


def _run(scale: str, method: str | None, library: Library) -> Run:
    """Return the first student of study demo with RetinaNet."""
    runs = plan("demo", scale, library).runs.values()
    return next(
        run
        for run in runs
        if run.detector == "retinanet" and run.method == method and run.student.startswith("r18")
    )


def _line(title: str, config: dict[str, Any], parts: int, rounds: int) -> report.Line:
    """Return the ratio of a step in parts to a whole one."""
    trainees = {"whole": Trainee.build(config), "parts": Trainee.build(config)}
    batches = trainees["whole"].batches()
    trainees["parts"].runner.train_loop  # noqa: B018  builds the loader that the hook reads
    Accumulation(parts).before_train(trainees["parts"].runner)
    times: dict[str, list[float]] = {name: [] for name in trainees}
    for number, data in enumerate(islice(batches, rounds + 1)):
        for name, trainee in trainees.items():
            seconds = _seconds(trainee, data)
            if number:  # the first round is for caches and allocators
                times[name].append(seconds)
    details = {f"{name}, ms": 1000 * quartiles(times[name]).median for name in times}
    return report.Line(title, ratio(times["parts"], times["whole"]), details=details)


def _seconds(trainee: Trainee, data: Any) -> float:
    """Return the time of a step: of the processor, which others may use, or of the GPU."""
    if torch.cuda.is_available():
        return timed(lambda: trainee.step(data))
    start = time.process_time()
    trainee.step(data)
    return time.process_time() - start


if __name__ == "__main__":
    main()
