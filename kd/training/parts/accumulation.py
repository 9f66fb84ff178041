"""Training steps that compute their batch in parts and update the weights once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

import kd.models.mmdet_setup  # noqa: F401
from kd.data.sampling import mix, seed_everything
from kd.methods.ops.parts import Parts
from kd.methods.ops.reduction import over
from kd.models.patched_heads import means_over
from kd.observers.recording import wrapped
from kd.training.loop import bare
from kd.training.module_states import load_training_states, training_states

Norms = dict[str, list[float]]


class Accumulation(Hook):
    """Hook that computes the batch of each step in ``count`` parts, with one update.

    Losses are divided by counts of the whole batch, which are known only after its last part. All
    parts are therefore computed without gradients first, which records their counts
    (``kd.methods.ops.parts``). They are computed again with gradients, which are averaged over the
    parts as DistributedDataParallel averages them over processes. The first computation is left out
    if no loss has such a count. Random numbers of a part are those of a process: each part draws
    from the seed of the step.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.has_sums = True
        """False if the first step of the epoch had no sum over its batch."""

    def before_train(self, runner: Runner) -> None:
        self.runner, self.whole_step = runner, runner.model.train_step
        self.images = runner.train_dataloader.batch_size // self.count
        runner.model.train_step = self.train_step

    def after_train(self, runner: Runner) -> None:
        runner.model.train_step = self.whole_step

    def before_train_epoch(self, runner: Runner) -> None:
        self.has_sums = True  # a term may begin in this epoch

    def train_step(self, data: dict[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        """Compute a batch in parts and update the weights; return the losses of the batch."""
        batches = parts_of(data, self.images)
        if len(batches) == 1:
            return self.whole_step(data, optim_wrapper=optim_wrapper)
        step = _Step(self.runner, optim_wrapper, batches)
        self.has_sums = self.has_sums and step.record()
        losses = step.gradients()
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return losses


def parts_of(data: Mapping[str, Any], largest: int) -> list[dict[str, Any]]:
    """Return the parts of a collated batch, all of the same size of at most ``largest`` images.

    Parts of different sizes would change means over images. The last batch of an epoch may be
    smaller, and its parts with it.
    """
    images = len(data["inputs"])
    count = next(n for n in range(-(-images // largest), images + 1) if images % n == 0)
    size = images // count
    return [
        {key: value[start : start + size] for key, value in data.items()}
        for start in range(0, images, size)
    ]


class _Step:
    """Step of a training whose batch is computed in parts."""

    def __init__(self, runner: Runner, optimizer: Any, batches: Sequence[dict[str, Any]]) -> None:
        self.wrapped, self.optimizer = runner.model, optimizer
        self.model = bare(runner.model)
        self.seed = mix(runner.seed, 1 + runner.iter)  # as SeedEachStep
        with self.optimizer.optim_context(self.wrapped):
            self.batches = [self.model.data_preprocessor(batch, True) for batch in batches]
        device = self.batches[0]["inputs"].device
        self.parts = Parts(len(batches), device, get_world_size())
        self.states = training_states(self.model)
        self.teachers = _TeacherOutputs(self.parts)

    def record(self) -> bool:
        """Compute the parts without gradients to record their sums; return False without sums."""
        with torch.no_grad(), self._unchanged_buffers(), self._not_probing():
            self._record_round()
            while self.parts.rounds < self.parts.required_rounds:
                self._record_round()
        return self.parts.required_rounds > 0

    def gradients(self) -> dict[str, Tensor]:
        """Compute the gradients of the mean loss of all parts; return the losses of the batch."""
        logs, probes = [], []
        for index in range(self.parts.count):
            is_last = index == self.parts.count - 1
            with self._synchronized(is_last), self._part(index, recording=False):
                logs.append(self._backward(index))
            if getattr(self.model, "probing", False):
                probes.append(self.model.probed)
        if probes:
            self.model.probed = _joined_norms(probes)
        return {name: torch.stack([log[name] for log in logs]).mean(0) for name in logs[0]}

    def _record_round(self) -> None:
        for index, batch in enumerate(self.batches):
            with self._part(index, recording=True), self.optimizer.optim_context(self.wrapped):
                self.model(**batch, mode="loss")
        self.parts.finish_round()

    def _backward(self, index: int) -> dict[str, Tensor]:
        with self.optimizer.optim_context(self.wrapped):
            losses = self.wrapped(**self.batches[index], mode="loss")
        total, log = self.model.parse_losses(losses)
        self.optimizer.backward(total / self.parts.count)
        return {name: value.detach() for name, value in log.items()}

    @contextmanager
    def _part(self, index: int, *, recording: bool) -> Iterator[None]:
        """Compute a part in the block, from the same states and random numbers each time."""
        load_training_states(self.model, self.states)
        seed_everything(self.seed)
        self.parts.start(index, recording=recording)
        with ExitStack() as stack:
            stack.enter_context(over(self.parts))
            stack.enter_context(means_over(self.parts))
            if hasattr(self.model, "observe_teachers"):
                stack.enter_context(wrapped(self.model, "observe_teachers", self.teachers.reuse))
            yield

    @contextmanager
    def _unchanged_buffers(self) -> Iterator[None]:
        """Restore the buffers after the block: statistics of batch normalization."""
        buffers = list(self.model.buffers())
        before = [buffer.clone() for buffer in buffers]
        yield
        if buffers:
            torch._foreach_copy_(buffers, before)

    @contextmanager
    def _not_probing(self) -> Iterator[None]:
        """Measure no gradients of terms in the block."""
        probing = getattr(self.model, "probing", False)
        if probing:
            self.model.probing = False
        yield
        if probing:
            self.model.probing = True

    def _synchronized(self, is_last: bool) -> AbstractContextManager[None]:
        """Return a context in which processes share gradients, after the last part only."""
        if is_last or not hasattr(self.wrapped, "no_sync"):
            return nullcontext()
        return self.wrapped.no_sync()


class _TeacherOutputs:
    """Observations of the teachers, computed in the first round and used in all others."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.by_part: dict[int, dict[str | None, Any]] = {}

    def reuse(self, observe: Any) -> Any:
        """Return ``observe`` with the observations of the current part read from here."""

        def observe_once(batch: Any) -> dict[str | None, Any]:
            part = self.parts.current
            observed = self.by_part.pop(part, None) or observe(batch)
            if not self.parts.recording:
                return observed
            self.by_part[part] = observed
            # Values that methods compute from the maps are released with the copy.
            return {
                kind: value if isinstance(value, nn.Module) else copy.copy(value)
                for kind, value in observed.items()
            }

        return observe_once


def _joined_norms(probes: Sequence[Norms]) -> Norms:
    """Return the norms of a batch's gradients; its loss is the mean of those of its parts."""
    return {
        name: [
            sum(norm**2 for norm in level) ** 0.5 / len(probes)
            for level in zip(*(probe[name] for probe in probes), strict=True)
        ]
        for name in probes[0]
    }
