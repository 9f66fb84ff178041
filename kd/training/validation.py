"""AP in the middle of a training, without any effect on the training."""

import json
import logging
import math
from functools import cached_property
from itertools import islice
from typing import Any

from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kd.common.files import truncate
from kd.config.composed import ComposedConfig
from kd.config.library import Library
from kd.data.entry import SplitName
from kd.evaluation.evaluate import metrics_of, truth_of
from kd.evaluation.predict import detections, split_batches
from kd.evaluation.stored import StoredDetections
from kd.training.averaging import averaged
from kd.training.launch import StopRequested
from kd.training.loop import Checkpoints, agreed, bare, run_directory

logger = logging.getLogger(__name__)

FILE = "validation.jsonl"


class Validation(Hook):
    """Hook that writes the COCO metrics on the validation split every ``interval`` epochs.

    Without a validation split they are those on the test split, except in the last epoch, whose
    metrics are in ``metrics.json``. A record in ``validation.jsonl`` has epoch, step, split, and
    the metrics as fractions of 1. Processes share the images. The hook saves a checkpoint first. A
    training that stops meanwhile repeats no step and measures the epoch again.
    """

    def __init__(self, interval: int, config: dict[str, Any], workers: int) -> None:
        self.interval, self.config, self.workers = interval, config, workers
        self.split: SplitName = "val" if ComposedConfig(config).has_split("val") else "test"

    def before_train(self, runner: Runner) -> None:
        """Measure an epoch that ended just before the training was interrupted."""
        self.path = run_directory(runner) / FILE
        (self.checkpoints,) = (hook for hook in runner.hooks if isinstance(hook, Checkpoints))
        if is_main_process():
            truncate(self.path, runner.iter)
        epoch, step = divmod(runner.iter, len(runner.train_dataloader))
        if epoch and not step and not agreed(is_main_process() and self._is_measured(epoch)):
            self._measure(runner, epoch)

    def after_train_epoch(self, runner: Runner) -> None:
        self._measure(runner, runner.epoch + 1)

    def _measure(self, runner: Runner, epoch: int) -> None:
        if not self._is_due(epoch, runner.max_epochs):
            return
        step = epoch * len(runner.train_dataloader)
        self.checkpoints.save(runner, step)
        with runner.train_loop.meter.paused(), averaged(runner):
            stored = self._detections(runner, step)
        if is_main_process():
            metrics = self._metrics(stored)
            record = {"epoch": epoch, "step": step, "split": self.split, **metrics}
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
            runner.call_hook("after_validation", record=record)
            ap = "undefined" if metrics["AP"] is None else f"{100 * metrics['AP']:.1f}"
            logger.info("epoch %d/%d: AP %s (%s split)", epoch, runner.max_epochs, ap, self.split)

    def _is_due(self, epoch: int, epochs: int) -> bool:
        if epoch >= epochs:  # metrics.json has the last ones on the test split
            return self.split != "test"
        return epoch % self.interval == 0

    def _is_measured(self, epoch: int) -> bool:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return any(json.loads(line)["epoch"] == epoch for line in lines)

    @cached_property
    def batches(self) -> Any:
        """Batches of the split for this process."""
        return split_batches(self.config, self.workers, self.split, *get_dist_info())

    @cached_property
    def truth(self) -> dict[str, Any]:
        """Ground truth of the split, as a COCO dict."""
        return truth_of(self.path.parent, Library(), self.split).coco

    def _detections(self, runner: Runner, step: int) -> StoredDetections:
        """Return the detections in all images; StopRequested if a stop is requested meanwhile."""
        model = bare(runner.model)
        detector = getattr(model, "student", model).eval()
        batches, parts = iter(self.batches), list[StoredDetections]()
        # All processes check for a stop as often as the one with the most batches.
        images = math.ceil(len(self.batches.dataset.dataset) / runner.world_size)
        for _ in range(math.ceil(images / self.batches.batch_size)):
            for batch in islice(batches, 1):
                parts += detections(detector, batch)
            if self.checkpoints.stop_requested():
                raise StopRequested(step, runner.max_iters)
        return StoredDetections.concatenate(all_gather_object(StoredDetections.concatenate(parts)))

    def _metrics(self, stored: StoredDetections) -> dict[str, Any]:
        metrics = metrics_of(stored.positioned(self.truth), self.truth).model_dump()
        return {name: value for name, value in metrics.items() if name != "per_class"}
