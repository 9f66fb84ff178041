"""Training loop and hooks: bit-exact resume, logging, checkpoints, NaN check."""

import json
import logging
import os
import shutil
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import (
    broadcast,
    broadcast_object_list,
    get_comm_device,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn, tensor, uint8

import kd.models.mmdet_setup  # noqa: F401
from kd.common.durations import duration
from kd.common.errors import UserError
from kd.common.files import truncate
from kd.data.sampling import mix, seed_everything
from kd.models import weights
from kd.observers import Progress
from kd.records import inputs
from kd.training.launch import STOP_FILE, StopRequested
from kd.training.meter import Meter, UsedResources, gpus_in_use
from kd.training.module_states import load_training_states, set_epoch, training_states
from kd.training.term_scale import FIRST_PROBES, PROBE_STEPS, TermScale, warning

logger = logging.getLogger(__name__)

MOST_CHECKPOINTS = 2
"""Number of checkpoints of a run; older ones are deleted."""
CHECKPOINT_KEYS = {"step", "seconds", "model", "optimizer", "schedulers"}
"""Keys that every checkpoint has, which a file must have to be resumed from."""


MOST_CULPRITS = 3  # terms in the message on a loss that is not finite


class NonFiniteLossError(UserError):
    """Error of a loss that is infinite or not a number."""


def run_directory(runner: Runner) -> Path:
    """Return the run's directory; mmengine's files lie in a folder below it."""
    return Path(runner.work_dir).parent


def inputs_of(runner: Runner) -> inputs.Inputs:
    """Return the inputs that the run depends on; none if mmengine's own runner trains."""
    return getattr(runner, "inputs", {})


def bare(model: nn.Module) -> Any:
    """Return the model without a distributed wrapper."""
    return model.module if is_model_wrapper(model) else model


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """Epochs that can be entered in the middle, from the newest checkpoint of the run.

    A training with ``stop_epoch`` ends after that epoch, and a rehearsal with ``stop_step`` after
    that step; methods see the progress of the whole training.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        max_epochs: int,
        stop_epoch: int | None = None,
        stop_step: int | None = None,
    ) -> None:
        super().__init__(runner, dataloader, stop_epoch or max_epochs)
        self.schedule_epochs = max_epochs
        if stop_step:
            self._max_iters: int = min(self.max_iters, stop_step)

    def run(self) -> nn.Module:
        """Restore the newest checkpoint of the same inputs if there is one; train to the end."""
        saved = _resumable(self.runner)
        self.meter = Meter(gpus_in_use(), UsedResources.read(saved) if saved else UsedResources())
        if saved:
            self._iter = _restore(self.runner, saved)
            self._epoch = self._iter // len(self.dataloader)
            if is_main_process():
                logger.info("resuming at step %d of %d", self._iter, self.max_iters)
        elif is_main_process() and (inherited := getattr(bare(self.runner.model), "inherited", "")):
            logger.info(inherited)
        return super().run()

    def run_epoch(self) -> None:
        """Run the remaining steps of the epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        self.dataloader.sampler.set_epoch(self._epoch, skip=done * self.dataloader.batch_size)
        model = bare(self.runner.model)
        set_epoch(model, self._epoch)
        epochs = self.schedule_epochs
        steps = epochs * len(self.dataloader)
        left = islice(self.dataloader, self.max_iters - self._iter)
        for index, batch in enumerate(left, start=done):
            model.progress = Progress(self._iter, self._epoch, epochs, steps)
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
        self.stop_training = self._iter == self.max_iters


@HOOKS.register_module()
class SeedEachStep(Hook):
    """Hook that makes random numbers of a step (RoI samplers, dropout) depend on seed and step."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seed_everything(mix(runner.seed, 1 + runner.iter))


@HOOKS.register_module()
class FiniteLoss(Hook):
    """Hook that ends training at a loss that is not finite, before the optimizer's step.

    The error names term, level and step.
    """

    def before_run(self, runner: Runner) -> None:
        model = bare(runner.model)
        parse = model.parse_losses

        def parse_finite(losses: dict[str, Any]) -> Any:
            total, log = parse(losses)
            if not total.isfinite():
                raise NonFiniteLossError(
                    f"step {runner.iter + 1}: {_culprits(losses)}; the training diverged: set a "
                    "lower 'lr' or 'clip_grad: 35' in the schedule, and run `kd check` on the data"
                )
            return total, log

        model.parse_losses = parse_finite


def _culprits(losses: dict[str, Any]) -> str:
    culprits = []
    for name, value in losses.items():
        parts = value if isinstance(value, list | tuple) else [value]
        for level, part in enumerate(parts):
            if not part.isfinite().all():
                place = f" at level {level}" if len(parts) > 1 else ""
                culprits.append(f"{name}{place} is {part.detach().float().sum().item()}")
    if len(culprits) > MOST_CULPRITS:
        culprits[MOST_CULPRITS:] = [f"and {len(culprits) - MOST_CULPRITS} more"]
    return ", ".join(culprits) or "the sum of finite losses overflows"


@HOOKS.register_module()
class StepLog(Hook):
    """Hook that writes ``log.jsonl``, one record per ``interval`` steps, and logs progress lines.

    A record has every loss term, the share of each distillation term in the loss, the learning
    rate and the rate in images per second. Records of the first ``probes`` steps, ``PROBE_STEPS``
    and of each epoch's last step also have ``gradient_norm``: the norm at the neck maps, by level,
    for each distillation term and for the detection loss. The hook warns once of a term whose
    gradient is far below or above that of detection.
    """

    def __init__(self, interval: int = 10, probes: int = 3, every_seconds: float = 10.0) -> None:
        self.interval, self.probes, self.every_seconds = interval, probes, every_seconds
        self.times: deque[float] = deque(maxlen=50)
        self.scale = TermScale()

    def before_train(self, runner: Runner) -> None:
        self.path = run_directory(runner) / "log.jsonl"
        self.title = " ".join(run_directory(runner).parts[-3:])
        if is_main_process():
            truncate(self.path, runner.iter)
            if runner.iter and self.path.exists():
                lines = self.path.read_text(encoding="utf-8").splitlines()
                self.scale.restore(map(json.loads, lines), len(runner.train_dataloader))
        self.printed = time.monotonic()
        self.times.append(self.printed)

    def before_train_epoch(self, runner: Runner) -> None:
        self.times.clear()  # the time between two epochs is no training time
        self.times.append(time.monotonic())

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        model = bare(runner.model)
        if hasattr(model, "probing"):
            last = self.end_of_epoch(runner.train_dataloader, batch_idx)
            due = runner.iter < self.probes or runner.iter + 1 in PROBE_STEPS or last
            model.probing = bool(self.probes) and due

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.times.append(time.monotonic())
        step, model = runner.iter + 1, bare(runner.model)
        probing = getattr(model, "probing", False)
        if not is_main_process():
            return
        if probing or step % self.interval == 0 or step == runner.max_iters:
            record = self._record(runner, outputs, step)
            if probing:
                record["gradient_norm"] = model.probed
                self._judge(runner, step, batch_idx)
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
            runner.call_hook("after_log", record=record)
        due = self.times[-1] - self.printed >= self.every_seconds
        if due or step in (1, runner.max_iters):
            self.printed = self.times[-1]
            logger.info(self._line(runner, outputs, step))

    def _judge(self, runner: Runner, step: int, batch_idx: int) -> None:
        """Warn once of each term that is far weaker or stronger than detection."""
        model = bare(runner.model)
        ended = self.end_of_epoch(runner.train_dataloader, batch_idx)
        for verdict in self.scale.add(step, model.probed, ended):
            logger.warning(warning(verdict, model.terms))
        if step == min(self.probes, FIRST_PROBES) and (line := self.scale.start()):
            logger.info("%s: %s", self.title, line)

    def _record(self, runner: Runner, outputs: dict[str, Tensor], step: int) -> dict[str, Any]:
        # One copy for all losses: each separate copy would wait for the GPU.
        loss_values = torch.stack([loss.detach() for loss in outputs.values()]).tolist()
        losses = dict(zip(outputs, loss_values, strict=True))
        total = losses.get("loss", 0.0)
        distilled = getattr(bare(runner.model), "distilled", ())
        return {
            "step": step,
            "steps": runner.max_iters,
            "epoch": runner.epoch + 1,
            "lr": runner.optim_wrapper.get_lr()["lr"][0],
            "images_per_second": round(self._rate(runner), 2),
            **losses,
            "share": {name: losses[name] / total for name in distilled if total},
        }

    def _rate(self, runner: Runner) -> float:
        seconds = self.times[-1] - self.times[0]
        images = (len(self.times) - 1) * runner.train_dataloader.batch_size * runner.world_size
        return images / seconds if seconds else 0.0

    def _line(self, runner: Runner, outputs: dict[str, Tensor], step: int) -> str:
        rate = self._rate(runner)
        left = (
            (runner.max_iters - step)
            * (self.times[-1] - self.times[0])
            / max(len(self.times) - 1, 1)
        )
        return (
            f"{self.title}: epoch {runner.epoch + 1}/{runner.max_epochs} "
            f"step {step}/{runner.max_iters} loss {outputs['loss'].item():.3f} "
            f"{rate:.1f} images/s, {duration(left)} left"
        )


@HOOKS.register_module()
class Checkpoints(Hook):
    """Hook that writes a checkpoint every ``steps`` steps or ``minutes`` minutes.

    A run resumed from a checkpoint ends with the same weights. A stop is requested by the file that
    ``SNAKEMAKE_STOP_FILE`` names: the hook then writes a checkpoint and ends the training. A
    checkpoint is renamed into place, so that an existing one is complete.
    """

    priority = "LOWEST"

    def __init__(self, steps: int, minutes: float) -> None:
        self.steps, self.minutes = steps, minutes

    def before_run(self, runner: Runner) -> None:
        self.saved = time.monotonic()
        self.stop_file = os.environ.get(STOP_FILE, "")
        self.stoppable = agreed(bool(self.stop_file))
        if is_main_process():
            for half_written in _folder(runner).glob(".*.tmp"):
                half_written.unlink()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        step = runner.iter + 1
        stop = step < runner.max_iters and self.stop_requested()
        due = step % self.steps == 0 or time.monotonic() - self.saved > 60 * self.minutes
        due = due or step == runner.max_iters  # a run that fails afterwards is not trained again
        if due or stop:
            self.save(runner, step)
        if stop:
            raise StopRequested(step, runner.max_iters)

    def stop_requested(self) -> bool:
        """Return True if training ends after this step; the same in every process."""
        return self.stoppable and agreed(bool(self.stop_file) and os.path.exists(self.stop_file))

    def save(self, runner: Runner, step: int) -> None:
        """Write the checkpoint of a step, in the main process and if there is none yet."""
        path = _checkpoint(_folder(runner), step)
        if path.exists() or not is_main_process():
            return
        content = {
            "step": step,
            "inputs": inputs_of(runner),
            **runner.train_loop.meter.used._asdict(),
            "model": bare(runner.model).state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
            "modules": training_states(bare(runner.model)),
        }
        runner.call_hook("before_save_checkpoint", checkpoint=content)
        weights.save(path, content)
        for old in _saved(path.parent)[:-MOST_CHECKPOINTS]:
            old.unlink()
        self.saved = time.monotonic()


def agreed(value: bool) -> bool:
    """Return the main process's value in every process."""
    if get_world_size() == 1:
        return value
    shared = tensor([value], dtype=uint8, device=get_comm_device())
    broadcast(shared)
    return bool(shared.item())


def _resumable(runner: Runner) -> dict[str, Any] | None:
    """Return the checkpoint to resume from; the main process selects it for all processes.

    Checkpoints of other inputs are moved to ``checkpoints-replaced``. A log line names the inputs
    that changed.
    """
    folder = _folder(runner)
    saved, depends = _newest(folder) if is_main_process() else None, inputs_of(runner)
    if saved and depends and (problem := inputs.changes(saved.get("inputs", {}), depends)):
        replaced = folder.with_name(f"{folder.name}-replaced")
        logger.info(
            "%s: %s; training starts again, the old checkpoints are in %s",
            folder,
            problem,
            replaced,
        )
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
        saved = None
    steps = [saved["step"] if saved else 0]
    broadcast_object_list(steps)
    return saved if saved or not steps[0] else weights.read(_checkpoint(folder, steps[0]))


def _newest(folder: Path) -> dict[str, Any] | None:
    """Return the newest usable checkpoint's content; warn of each that cannot be used."""
    for path in reversed(_saved(folder)):
        try:
            content = weights.read(path)
            if content.keys() >= CHECKPOINT_KEYS:
                return content
            problem = f"{path}: not a checkpoint of a training"
        except UserError as error:
            problem = str(error)
        logger.warning("warning: %s; skipping it", problem)
    return None


def _restore(runner: Runner, content: dict[str, Any]) -> int:
    """Load a checkpoint into the runner; return its number of steps."""
    bare(runner.model).load_state_dict(content["model"])
    load_training_states(bare(runner.model), content.get("modules", {}))
    runner.optim_wrapper.load_state_dict(content["optimizer"])
    for scheduler, state in zip(runner.param_schedulers, content["schedulers"], strict=True):
        scheduler.load_state_dict(state)
    runner.call_hook("after_load_checkpoint", checkpoint=content)
    return content["step"]


def _folder(runner: Runner) -> Path:
    return run_directory(runner) / "checkpoints"


def _checkpoint(folder: Path, step: int) -> Path:
    return folder / f"step{step:08d}.pth"


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step*.pth"))
