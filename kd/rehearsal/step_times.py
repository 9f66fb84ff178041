"""Hook that measures the time of each step of a rehearsal."""

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from kd.rehearsal.rehearse import STEP_TIMES
from kd.training.launch import STOP_FILE
from kd.training.loop import run_directory


@HOOKS.register_module()
class StepTimes(Hook):
    """Hook that writes the end and the seconds of each step to ``steps.jsonl``.

    A step begins where the one before ends, so loading its batch is part of it. The first step of a
    start also contains the start of the loading processes. The hook requests a stop after step
    ``stop_after`` by the file that ``SNAKEMAKE_STOP_FILE`` names.
    """

    priority = "LOW"

    def __init__(self, stop_after: int) -> None:
        self.stop_after = stop_after

    def before_train_epoch(self, runner: Runner) -> None:
        self.ended = time.time()
        self.is_first = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not is_main_process():
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        step, now = runner.iter + 1, time.time()
        record = {
            "step": step,
            "ended": now,
            "seconds": now - self.ended,
            "first": self.is_first,
            "process_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10,
            "probed": bool(getattr(runner.model, "probing", False)),
        }
        with open(run_directory(runner) / STEP_TIMES, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        self.ended, self.is_first = now, False
        if step == self.stop_after and (stop_file := os.environ.get(STOP_FILE)):
            Path(stop_file).touch()
