"""Time a training step of this pipeline, the same model's step in a bare loop, and each hook.

python benchmarks/loop.py                             two minutes on two CPU cores
python benchmarks/loop.py --precision bfloat16        both in half precision, and against float32

RetinaNet, the scale's student without a teacher. The runner of a composed run trains. After every
few steps it waits for as many steps of the bare loop: batches of the same images in the same order,
a copy of the model, an optimizer with the same settings, and nothing else. Both load their data.
"""

import argparse
import copy
import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch.utils.data import DataLoader

import kd.runtime  # noqa: F401
from benchmarks import report
from kd.common.timing import quartiles, ratio, synchronize
from kd.config.compose import compose
from kd.config.library import Library
from kd.config.run import Run
from kd.data.builtin.shapes import generate
from kd.data.sampling import EpochSampler, build_dataset
from kd.training.train import build_runner

MOST = 1.03
STAGES = ("before_train_iter", "after_train_iter")


def main() -> None:
    """Run the benchmark and print its table."""
    options = _options()
    MMLogger.get_instance("benchmark", log_level="ERROR")
    torch.set_num_threads(options.threads)
    gc.freeze()  # as `kd train` does
    kinds = {"float32", options.precision}
    with tempfile.TemporaryDirectory() as folder:
        by_precision = {
            precision: measure(precision, options, Path(folder) / precision)
            for precision in sorted(kinds)
        }
    lines: list[report.Line] = []
    for precision, (runner, bare, hooks) in by_precision.items():
        details = {"ms": 1000 * quartiles(runner).median, "bare, ms": 1000 * quartiles(bare).median}
        what = f"step of the pipeline / bare step, {precision}"
        lines.append(report.Line(what, ratio(runner, bare), MOST, details=details))
        lines += [_hook_line(name, seconds, precision) for name, seconds in hooks.items()]
    if len(by_precision) == 2:
        low, full = (by_precision[name][0] for name in (options.precision, "float32"))
        what = f"images/s in {options.precision} / in float32"
        lines.append(report.Line(what, ratio(full, low)))
    about = (
        f"RetinaNet, scale {options.scale}, student alone, batches of {options.batch}, "
        f"{options.rounds} rounds of {options.steps} steps, on {report.device_name()}."
    )
    print(report.publish(options.name or "loop", about, lines, options.before))


def _options() -> argparse.Namespace:
    parser = report.arguments(__doc__)
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--steps", type=int, default=10, help="steps of one loop before a turn of the other"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    return report.parse(parser, rounds=2, steps=2, batch=2)


def _hook_line(name: str, seconds: list[float], precision: str) -> report.Line:
    return report.Line(
        f"- {name}, ms of a step in {precision}", quartiles([1000 * s for s in seconds])
    )


StepTimes = tuple[list[float], list[float], dict[str, list[float]]]


def measure(precision: str, options: argparse.Namespace, folder: Path) -> StepTimes:
    """Return seconds of a step by round: of the runner, of the bare loop, and of each hook."""
    config = compose_student(precision, options, folder)
    runner = build_runner(config, folder)
    turns = Turns(BareLoop(config, options.batch), options.steps, options.rounds)
    runner.register_hook(turns, priority="LOWEST")
    hooks = time_hooks(runner)
    with suppress(_Done):
        runner.train()
    hook_times = {
        name: [s / options.steps for s in _round_sums(times, turns)]
        for name, times in hooks.items()
    }
    return turns.runner, turns.bare, hook_times


def compose_student(precision: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the composed configuration of the scale's student, without a teacher.

    With ``--tiny`` its images are a few in ``folder``.
    """
    library = Library()
    scale = library.scale(options.scale, "benchmark")
    run = Run(
        scale=options.scale,
        dataset=scale.datasets.get("coco2017", "coco2017"),
        schedule=scale.schedules.get("1x", "1x"),
        detector="retinanet",
        student=scale.backbones.get("r18", "r18"),
        seed=0,
    )
    entry = library.dataset(run.dataset, "benchmark")
    config = compose(run, {}, scale, library, "benchmark")
    if entry.generate and options.tiny:
        generate(entry.generate.model_copy(update={"train": 8, "test": 1}), folder / "images")
        config["train_dataloader"]["dataset"]["dataset"]["data_root"] = str(folder / "images")
    elif entry.generate:
        generate(entry.generate, Path(entry.root))
    config["train_dataloader"]["batch_size"] = options.batch
    if precision != "float32":
        config["optim_wrapper"] |= {"type": "PreciseOptimWrapper", "precision": precision}
    return config


class BareLoop:
    """Training loop that only loads, computes the loss, and updates the weights."""

    def __init__(self, config: dict[str, Any], batch: int) -> None:
        data = copy.deepcopy(config["train_dataloader"]["dataset"])
        dataset = build_dataset(data["dataset"])
        sampler = EpochSampler(dataset, data["seed"])
        wrapped = _RepeatedDataset(dataset)
        self.loader = DataLoader(
            wrapped, batch, sampler=sampler, num_workers=0, collate_fn=pseudo_collate
        )
        settings = config["optim_wrapper"]
        self.clip = settings.get("clip_grad")
        self.dtype = settings.get("precision")
        self.settings = dict(settings["optimizer"])

    def begin(self, model: Any) -> None:
        """Prepare the training of a copy of a model with its first weights."""
        self.model = copy.deepcopy(model)
        self.model.__dict__.pop("parse_losses", None)  # replaced by a hook of the runner
        kind = getattr(torch.optim, self.settings.pop("type"))
        self.optimizer = kind(self.model.parameters(), fused=True, **self.settings)
        self.batches = self._batches()

    def _batches(self) -> Iterator[Any]:
        for epoch in range(1_000_000):
            self.loader.sampler.set_epoch(epoch)
            yield from self.loader

    def step(self) -> None:
        """Load a batch and train on it."""
        batch = self.model.data_preprocessor(next(self.batches), training=True)
        device = batch["inputs"].device.type
        dtype = getattr(torch, self.dtype) if self.dtype else None
        with torch.autocast(device, dtype, enabled=self.dtype is not None):
            losses = self.model(**batch, mode="loss")
        loss, _ = self.model.parse_losses(losses)
        loss.backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), **self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()


class _RepeatedDataset(torch.utils.data.Dataset[Any]):
    """Data set whose indices continue from epoch to epoch."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index % len(self.dataset)]


class _Done(Exception):  # noqa: N818
    """Signal that all rounds are measured."""


class Turns(Hook):
    """Hook that runs the bare loop after every few steps of the runner, and stops at the end."""

    priority = "LOWEST"

    def __init__(self, other: BareLoop, steps: int, rounds: int) -> None:
        self.other, self.steps, self.rounds = other, steps, rounds
        self.runner: list[float] = []
        self.bare: list[float] = []

    def before_train(self, runner: Runner) -> None:
        self.other.begin(runner.model)
        runner.model.train()
        self.other.model.train()
        self.started = time.perf_counter()

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        if (runner.iter + 1) % self.steps:
            return
        synchronize()
        middle = time.perf_counter()
        for _ in range(self.steps):
            self.other.step()
        synchronize()
        ended = time.perf_counter()
        if runner.iter + 1 > self.steps:  # the first round is for caches and allocators
            self.runner.append((middle - self.started) / self.steps)
            self.bare.append((ended - middle) / self.steps)
        if len(self.runner) == self.rounds:
            raise _Done
        self.started = time.perf_counter()


def time_hooks(runner: Any) -> dict[str, list[float]]:
    """Record the seconds of each hook in each step, in the order of the steps."""
    by_hook: dict[str, list[float]] = {}
    for hook in runner.hooks:
        if isinstance(hook, Turns):
            continue
        times = by_hook.setdefault(type(hook).__name__, [])
        for stage in STAGES:
            _time(hook, stage, times)
    return by_hook


def _time(hook: Any, stage: str, times: list[float]) -> None:
    method = getattr(hook, stage)

    def timed(*arguments: Any, **options: Any) -> None:
        started = time.perf_counter()
        method(*arguments, **options)
        times.append(time.perf_counter() - started)

    setattr(hook, stage, timed)


def _round_sums(times: list[float], turns: Turns) -> list[float]:
    """Return the sum of the times of each round, without the first."""
    of_a_round = len(STAGES) * turns.steps
    rounds = range(of_a_round, (len(turns.runner) + 1) * of_a_round, of_a_round)
    return [sum(times[start : start + of_a_round]) for start in rounds]


if __name__ == "__main__":
    main()
