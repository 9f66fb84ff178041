"""Hooks of YOLOX's training that depend on the step or epoch only."""

import random
import sys
from typing import Any

from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

import kd.models.mmdet_setup  # noqa: F401
from kd.data.sampling import mix
from kd.training.loop import bare


@HOOKS.register_module()
class ResizeBatches(Hook):
    """Hook that resizes whole batches, images and boxes, to a square of a random side.

    The side is a multiple of ``divisor`` from ``smallest`` to ``largest`` pixels. Every
    ``interval`` steps another one is drawn from the run's seed and the number of the interval.
    It is the same in all processes and in a resumed training. Batches of the first interval are not
    resized. mmdet's ``BatchSyncRandomResize`` resizes; its own draws depend on earlier ones.
    """

    priority = "VERY_HIGH"

    def __init__(self, smallest: int, largest: int, divisor: int = 32, interval: int = 10) -> None:
        self.sides = [round(side / divisor) for side in (smallest, largest)]
        self.divisor, self.interval = divisor, interval

    def before_run(self, runner: Runner) -> None:
        # The largest interval: this hook selects the size instead.
        unused = {"random_size_range": (1, 1), "interval": sys.maxsize}
        self.resize = MODELS.build({"type": "mmdet.BatchSyncRandomResize", **unused})
        preprocessor = bare(runner.model).data_preprocessor
        preprocessor.batch_augments = nn.ModuleList([self.resize])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        side = self.side(runner.seed, runner.iter)
        self.resize._input_size = side and (side, side)
        MessageHub.get_current_instance().update_info("iter", runner.iter)

    def side(self, seed: int, step: int) -> int | None:
        """Return the side in pixels of the batch of a step, counted from 0; None for its own."""
        interval = step // self.interval
        if not interval:
            return None
        # Four numbers: those of samples are three.
        draws = random.Random(mix(seed, 0, 0, interval))
        return self.divisor * draws.randint(*self.sides)


@HOOKS.register_module()
class BoxL1Loss(Hook):
    """Hook that adds YOLOX's L1 loss of boxes from epoch ``from_epoch`` on, counted from 0."""

    def __init__(self, from_epoch: int) -> None:
        self.from_epoch = from_epoch

    def before_train_epoch(self, runner: Runner) -> None:
        model = bare(runner.model)
        detector = getattr(model, "student", model)
        detector.bbox_head.use_l1 = runner.epoch >= self.from_epoch
