"""Time, energy and memory of a student's step in bfloat16 over float32, in full width.

python benchmarks/devices/precision.py --size 1344x800 --batch 16        a GPU, under a minute

RetinaNet, ResNet-18, with random weights on random images. Steps of each precision run for a few
seconds in turn. In bfloat16 the weights are in the memory order channels_last, as in a run.
Energy is that of the whole GPU, read from NVML.
"""

import argparse
import copy
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import kd.runtime  # noqa: F401
from benchmarks import report
from benchmarks.report import Line
from benchmarks.step_time import Pair, random_batch
from kd.common.timing import Quartiles, quartiles, ratio, results_in_turn, synchronize
from kd.profiling import measure
from kd.profiling.trainee import Trainee
from kd.training.meter import Meter, UsedResources, gpus_in_use

LEAST = 1.6
"""Target for images/s on a GPU; a processor without units for bfloat16 is slower."""
PRECISIONS = ("float32", "bfloat16")
NO_ENERGY = "Energy not measured: NVML has no energy counter here (no GPU, no driver, or MIG)."


class Cost(NamedTuple):
    """Seconds and joules of one step; None if energy was not measured."""

    seconds: float
    joules: float | None


def main() -> None:
    """Run the benchmark and print its table."""
    parser = report.arguments(__doc__)
    parser.set_defaults(rounds=4)
    parser.add_argument("--scale", default="paper")
    parser.add_argument("--size", default="224x224", help="image size in pixels, as WIDTHxHEIGHT")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="least time of a case in a round"
    )
    options = report.parse(parser, rounds=1, scale="smoke", size="128x128", batch=1, seconds=0.1)
    MMLogger.get_instance("benchmark", log_level="ERROR")
    init_default_scope("mmdet")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = Pair("retinanet", options.scale, Path(folder)).alone
    lines, notes = measured(config, options)
    about = (
        f"RetinaNet, ResNet-18, scale {options.scale}, student alone, {options.batch} images of "
        f"{options.size} a step, on {report.device_name()}; bfloat16 over float32, "
        f"{options.rounds} rounds."
    )
    print(report.publish(options.name or "precision", about, lines, options.before, notes))


def measured(config: dict[str, Any], options: argparse.Namespace) -> tuple[list[Line], list[str]]:
    """Return the lines of speed, energy and memory, and notes on absent ones."""
    width, height = map(int, options.size.split("x"))
    data = random_batch(options.batch, width, height)
    trainees = {name: trainee(config, name) for name in PRECISIONS}
    cases = {name: partial(steps_of, trainees[name], data, options.seconds) for name in PRECISIONS}
    costs = results_in_turn(cases, options.rounds)
    seconds = {name: [cost.seconds for cost in costs[name]] for name in PRECISIONS}
    least = LEAST if torch.cuda.is_available() else None
    details = {f"{name}, ms": 1000 * quartiles(seconds[name]).median for name in PRECISIONS}
    full, half = PRECISIONS
    speed = ratio(seconds[full], seconds[half])
    lines = [Line(f"images/s in {half} / in {full}", speed, least=least, details=details)]
    joules = {
        name: [cost.joules for cost in costs[name] if cost.joules is not None]
        for name in PRECISIONS
    }
    if len(joules[full]) == len(joules[half]) == options.rounds:
        details = {f"{name}, J": quartiles(joules[name]).median for name in PRECISIONS}
        value = ratio(joules[half], joules[full])
        lines.append(Line(f"joules of a step in {half} / in {full}", value, details=details))
    peaks = {name: measure.peak_of(trainees[name], data) for name in PRECISIONS}
    share = peaks[half] / peaks[full]
    details = {f"{name}, MB": peaks[name] / 1e6 for name in PRECISIONS}
    value = Quartiles(share, share, share, 1)
    lines.append(Line(f"memory of a step in {half} / in {full}", value, details=details))
    return lines, [NO_ENERGY] if len(lines) < 3 else []


def trainee(config: dict[str, Any], precision: str) -> Trainee:
    """Return the student in training with a precision."""
    changed = copy.deepcopy(config)
    if precision != "float32":
        changed["optim_wrapper"] |= {"type": "PreciseOptimWrapper", "precision": precision}
    return Trainee.build(changed)


def steps_of(student: Trainee, data: dict[str, Any], seconds: float) -> Cost:
    """Return the mean cost of steps that take at least this many seconds together."""
    synchronize()
    meter, started, steps = Meter(gpus_in_use(), UsedResources()), time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        student.step(data)
        steps += 1
        if steps % 4 == 0:
            synchronize()  # otherwise the queue of a GPU grows beyond the seconds
    synchronize()
    spent, used = time.perf_counter() - started, meter.used
    joules = None if used.energy_joules is None else used.energy_joules / steps
    return Cost(spent / steps, joules)


if __name__ == "__main__":
    main()
