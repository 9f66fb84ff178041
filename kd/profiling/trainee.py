"""Model that is trained step by step as a run trains it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

import kd.models.mmdet_setup  # noqa: F401
from kd.config.composed import without_imagenet
from kd.data.sampling import seed_everything
from kd.models.weights import load_strictly
from kd.observers import Progress
from kd.profiling.parts import student_of
from kd.training.train import build_runner, order_memory

PAST_WARM_UP = Progress(step=10_000, epoch=0, epochs=12)
LEARNING_RATE = 1e-6
"""Learning rate so small that the weights hardly change, however many steps run."""


@dataclass(frozen=True)
class Trainee:
    """Model in training with its optimizer; a distiller is past every warm-up."""

    model: Any
    optimizer: Any
    runner: Any

    @classmethod
    def build(
        cls, config: dict[str, Any], trained: Path | None = None, workers: int = 0
    ) -> Trainee:
        """Build the model of a composed configuration, on the GPU if there is one.

        ``trained``: weights of its detector, otherwise random. ``workers``: data loading
        processes.
        """
        # ImageNet weights change no time, and would have to be downloaded.
        settings = without_imagenet(copy.deepcopy(config))
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            runner = build_runner(settings, Path(folder), workers)
        model = runner.model
        model.init_weights()
        order_memory(runner)
        if trained:
            load_strictly(student_of(model), trained)
        optimizer = runner.build_optim_wrapper(runner.optim_wrapper)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE
        model.progress = PAST_WARM_UP
        if hasattr(model, "always_active"):
            model.always_active()
        return cls(model.train(), optimizer, runner)

    def batches(self) -> Iterator[Any]:
        """Yield the batches of the run's loader, epoch after epoch."""
        loader = self.runner.train_loop.dataloader
        for epoch in count():
            loader.sampler.set_epoch(epoch)
            yield from loader

    def step(self, data: Any) -> None:
        """Run a training step on a batch: forward, backward and optimizer."""
        seed_everything(0)
        self.model.train_step(data, self.optimizer)

    def losses(self, data: Any) -> Any:
        """Run the forward pass of a step; return its losses."""
        seed_everything(0)
        with self.optimizer.optim_context(self.model):
            return self.model(**self.model.data_preprocessor(data, True), mode="loss")
