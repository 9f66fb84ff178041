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

from kd.config.library import Library
from kd.evaluation.evaluate import coco_results, metrics_of, truth_of
from kd.evaluation.predict import detections, split_batches
from kd.training.launch import StopRequested
from kd.training.loop import Checkpoints, agreed, bare, run_directory, truncate

logger = logging.getLogger(__name__)

FILE = "validation.jsonl"


class Validation(Hook):
    """Hook that writes the COCO metrics on the test split every ``interval`` epochs but the last.

    The last epoch's metrics are in ``metrics.json``. A record in ``validation.jsonl`` has epoch,
    step, and the metrics as fractions of 1. Processes share the images. The hook saves a checkpoint
    first. A training that stops meanwhile repeats no step and measures the epoch again.
    """

    def __init__(self, interval: int, config: dict[str, Any], workers: int) -> None:
        self.interval, self.config, self.workers = interval, config, workers

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
        if epoch % self.interval or epoch >= runner.max_epochs:
            return
        step = epoch * len(runner.train_dataloader)
        self.checkpoints.save(runner, step)
        with runner.train_loop.meter.paused():
            records = self._detections(runner, step)
        if is_main_process():
            metrics = self._metrics(records)
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"epoch": epoch, "step": step, **metrics}) + "\n")
            ap = "undefined" if metrics["AP"] is None else f"{100 * metrics['AP']:.1f}"
            logger.info("epoch %d/%d: AP %s", epoch, runner.max_epochs, ap)

    def _is_measured(self, epoch: int) -> bool:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return any(json.loads(line)["epoch"] == epoch for line in lines)

    @cached_property
    def batches(self) -> Any:
        """Batches of the test split for this process."""
        return split_batches(self.config, self.workers, *get_dist_info())

    @cached_property
    def truth(self) -> dict[str, Any]:
        """Ground truth of the test split, as a COCO dict."""
        return truth_of(self.path.parent, Library()).coco

    def _detections(self, runner: Runner, step: int) -> list[dict[str, Any]]:
        """Return the detections in all images; StopRequested if a stop is requested meanwhile."""
        model = bare(runner.model)
        detector = getattr(model, "student", model).eval()
        batches, records = iter(self.batches), []
        # All processes check for a stop as often as the one with the most batches.
        images = math.ceil(len(self.batches.dataset.dataset) / runner.world_size)
        for _ in range(math.ceil(images / self.batches.batch_size)):
            for batch in islice(batches, 1):
                records += detections(detector, batch)
            if self.checkpoints.stop_requested():
                raise StopRequested(step, runner.max_iters)
        return [record for share in all_gather_object(records) for record in share]

    def _metrics(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        metrics = metrics_of(coco_results(records, self.truth), self.truth).model_dump()
        return {name: value for name, value in metrics.items() if name != "per_class"}
