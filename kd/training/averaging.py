"""Exponential moving average of a student's weights, which become the weights of the run."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from kd.training.loop import bare

KEY = "average"
"""Key of a checkpoint that holds the averaged weights."""
FALL = 2000
"""Steps after which the surplus of the newest weights' share has fallen to 1 / e (mmdet 3.3.0)."""


@HOOKS.register_module()
class AverageWeights(Hook):
    """Hook that averages the student's weights and buffers after every step.

    After step t, counted from 0, average = (1 - m) average + m weights, where m is ``momentum`` +
    (1 - ``momentum``) exp(-(1 + t) / 2000). After step 0 the average is the weights. These are the
    values of mmdet's ``ExpMomentumEMA`` with ``update_buffers``, computed for all tensors at once.
    Whole numbers, such as the batches that a normalization has counted, stay those of step 0.
    Adapters and teachers are not averaged. Checkpoints hold the average, so a resumed training ends
    with bit-identical averaged weights.
    """

    priority = 49  # as in mmdet: before the checkpoint of the step is written

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self.average: dict[str, Tensor] = {}

    def before_run(self, runner: Runner) -> None:
        self.average = {name: value.clone() for name, value in _weights(runner).items()}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        weights = _weights(runner)
        if runner.iter == 0:
            self._load(weights)
            return
        share = self.momentum + (1 - self.momentum) * math.exp(-(1 + runner.iter) / FALL)
        names = [name for name, value in weights.items() if value.dtype.is_floating_point]
        averages = [self.average[name] for name in names]
        torch._foreach_mul_(averages, 1 - share)
        torch._foreach_add_(averages, [weights[name] for name in names], alpha=share)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.average

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._load(checkpoint[KEY])

    def swap(self, runner: Runner) -> None:
        """Exchange the student's weights with the average."""
        weights = {name: value.clone() for name, value in _weights(runner).items()}
        for name, value in _weights(runner).items():
            value.copy_(self.average[name])
        self._load(weights)

    def _load(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.average.items():
            value.copy_(weights[name])


def _weights(runner: Runner) -> dict[str, Tensor]:
    """Return the weights and buffers of the student by name, not copied."""
    model: nn.Module = bare(runner.model)
    state: dict[str, Tensor] = getattr(model, "student", model).state_dict()
    return state


@contextmanager
def averaged(runner: Runner) -> Iterator[None]:
    """Give the student its averaged weights within the block, if the training averages them."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, AverageWeights)]
    for hook in hooks:
        hook.swap(runner)
    try:
        yield
    finally:
        for hook in hooks:
            hook.swap(runner)
