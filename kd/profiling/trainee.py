"""A model that is trained step by step as a run trains it, and the bare student of a distiller."""

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
from kd.training.train import build_runner

PAST_WARM_UP = Progress(step=10_000, epoch=0, epochs=12)
RATE = 1e-6
"""So small that weights stay what they are, however many steps are made."""


@dataclass(frozen=True)
class Trainee:
    """A model in training with its optimiser; of a distiller, past every warm-up."""

    model: Any
    optimiser: Any
    runner: Any

    @classmethod
    def build(
        cls, config: dict[str, Any], trained: Path | None = None, workers: int = 0
    ) -> Trainee:
        """Build what a composed configuration trains, on the GPU where there is one.

        ``trained``: weights of its detector, which are random ones otherwise; ``workers``: data
        loading processes.
        """
        # Weights of ImageNet change no time and might have to be downloaded.
        settings = without_imagenet(copy.deepcopy(config))
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            runner = build_runner(settings, Path(folder), workers)
        model = runner.model
        model.init_weights()
        if trained:
            load_strictly(student_of(model), trained)
        optimiser = runner.build_optim_wrapper(runner.optim_wrapper)
        for group in optimiser.param_groups:
            group["lr"] = RATE
        model.progress = PAST_WARM_UP
        return cls(model.train(), optimiser, runner)

    def batches(self) -> Iterator[Any]:
        """Yield what the run's loader gives, epoch after epoch."""
        loader = self.runner.train_loop.dataloader
        for epoch in count():
            loader.sampler.set_epoch(epoch)
            yield from loader

    def step(self, data: Any) -> None:
        """Make a training step on what a loader gave: forward, backward and the optimiser's."""
        seed_everything(0)
        self.model.train_step(data, self.optimiser)

    def losses(self, data: Any) -> Any:
        """Make the forward of a step; return its losses."""
        seed_everything(0)
        with self.optimiser.optim_context(self.model):
            return self.model(**self.model.data_preprocessor(data, True), mode="loss")
