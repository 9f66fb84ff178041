"""Unchanged adapters of a term outside of its epochs."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kd.training.loop import bare

EPOCH_KEYS = frozenset({"from_epoch", "until_epoch"})
"""Settings of a method that limit its term to some epochs."""


class InactiveAdapters(Hook):
    """Hook that removes the gradients of 0 of inactive adapters before a step of the optimizer.

    Otherwise weight decay and momentum would change these adapters.
    """

    def before_train(self, runner: Runner) -> None:
        model = bare(runner.model)

        def remove_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for parameter in model.inactive_adapters():
                parameter.grad = None
                if isinstance(optimizer, torch.optim.SGD):
                    # The fused SGD refuses parameters of which only some have a momentum.
                    state = optimizer.state[parameter]
                    state.setdefault("momentum_buffer", torch.zeros_like(parameter))

        self.handle = runner.optim_wrapper.optimizer.register_step_pre_hook(remove_gradients)

    def after_train(self, runner: Runner) -> None:
        self.handle.remove()
