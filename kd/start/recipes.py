"""Proposed schedules: steps from the number of images, optimizer from the number of steps."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from kd.start.machine import Machine

Setting = tuple[Any, str]
"""A value, and the reason for it."""

CPU_STEPS, GPU_STEPS = 900, 6000
"""Steps of a training at least: BCCD's schedule has 876 on a CPU."""
LEAST_EPOCHS = 12
MANY_IMAGES = 5000
"""Images from which SGD has enough steps in 12 epochs."""
LARGE_GPU_GB = 15.0
SCRATCH_EPOCHS = 3
"""Factor on the epochs of a training from random weights."""


@dataclass(frozen=True)
class Situation:
    """Facts that a schedule depends on."""

    images: int
    machine: Machine
    detector: str
    family: str
    """Augmentation of the detector."""
    scratch: bool
    """True if its backbone has no ImageNet weights."""

    @property
    def batch(self) -> int:
        """Images of a step."""
        usual = 4
        if self.machine.device == "gpu":
            usual = 16 if self.machine.memory_gb >= LARGE_GPU_GB else 8
        return max(min(usual, self.images), 1)

    @property
    def epochs(self) -> int:
        """Epochs that make enough steps."""
        steps = CPU_STEPS if self.machine.device == "cpu" else GPU_STEPS
        epochs = max(LEAST_EPOCHS, ceil(steps * self.batch / self.images))
        return epochs * SCRATCH_EPOCHS if self.scratch else epochs

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.epochs * ceil(self.images / self.batch)


def recipe(situation: Situation) -> dict[str, Setting]:
    """Return a schedule's settings with their reasons."""
    if situation.family.startswith("rtmdet"):
        return {**_length(situation), **_rtmdet(situation)}
    if situation.family.startswith("yolox"):
        return {**_length(situation), **_yolox(situation)}
    return {**_length(situation), **_steps(situation), **_optimizer(situation)}


def _length(one: Situation) -> dict[str, Setting]:
    where = "a CPU" if one.machine.device == "cpu" else "a GPU"
    least = CPU_STEPS if one.machine.device == "cpu" else GPU_STEPS
    reason = (
        f"{one.images} training images with objects x {one.epochs} epochs / {one.batch} images a "
        f"step = {one.steps} steps. At least {LEAST_EPOCHS} epochs and about {least} steps for a "
        f"first result on {where}."
    )
    if one.scratch:
        reason += f" {SCRATCH_EPOCHS} times as many, because the training has random weights."
    batch = f"The usual batch for {one.machine.name}."
    return {"epochs": (one.epochs, reason), "batch_size": (one.batch, batch)}


def _steps(one: Situation) -> dict[str, Setting]:
    milestones = [max(one.epochs * 2 // 3, 1), max(one.epochs * 11 // 12, 1)]
    return {
        "milestones": (
            sorted({*milestones}),
            "The rate falls to a tenth after 2/3 and 11/12, as in schedule 1x.",
        ),
        "warmup_iters": (_warmup(one), "About a twentieth of the steps, at most 500."),
    }


def _warmup(one: Situation) -> int:
    return min(500, max(one.steps // 20, 1))


def _optimizer(one: Situation) -> dict[str, Setting]:
    init = {"init": ("scratch", "Its backbone has no ImageNet weights here.")}
    if one.images < MANY_IMAGES:
        reason = (
            "With few steps AdamW learns more. On BCCD, SGD at 0.01 had learned one of three "
            "classes after 740 steps of 8 images; AdamW at this rate learned all in 876 steps of 4."
        )
        settings: dict[str, Setting] = {
            "optimizer": ("AdamW", reason),
            "lr": (0.0004, ""),
            "clip_grad": (35, ""),
        }
    else:
        settings = {
            "optimizer": (
                "SGD",
                f"As every paper; {MANY_IMAGES} images or more give it the steps.",
            ),
            "lr": (0.01, "mmdet's rate for 16 images a step."),
            "base_batch_size": (16, ""),
            "clip_grad": (35, ""),
        }
    return {**settings, **(init if one.scratch else {})}  # type: ignore[dict-item]


def _rtmdet(one: Situation) -> dict[str, Setting]:
    return {
        "milestones": ([], "RTMDet's recipe (schedule rtmdet), shortened to these epochs."),
        "cosine_from": (one.epochs // 2, "Constant rate, then half a cosine."),
        "cosine_to": (0.05, ""),
        "warmup_iters": (_warmup(one), "About a twentieth of the steps, at most 500."),
        "warmup_start": (0.00001, ""),
        "optimizer": ("AdamW", ""),
        "lr": (0.0005, "The published 0.004 is for 256 images a step; a small batch needs less."),
        "weight_decay": (0.05, ""),
        "decay_norm_and_bias": (False, ""),
        "ema": (0.0002, ""),
        "unmixed_epochs": (
            max(one.epochs // 15, 1),
            "The last fifteenth of the epochs mixes no images, as the published 20 of 300.",
        ),
    }


def _yolox(one: Situation) -> dict[str, Setting]:
    warmup = max(one.epochs // 60, 1)
    constant = max(one.epochs // 20, 1)
    return {
        "milestones": ([], "YOLOX's recipe (schedule yolox), shortened to these epochs."),
        "cosine_from": (warmup, "Quadratic warm-up, half a cosine, then a constant rate."),
        "cosine_to": (0.05, ""),
        "constant_epochs": (constant, ""),
        "warmup_iters": (0, ""),
        "warmup_epochs": (warmup, ""),
        "lr": (0.01, "The published rate, for 64 images a step."),
        "base_batch_size": (64, ""),
        "nesterov": (True, ""),
        "weight_decay": (0.0005, ""),
        "decay_norm_and_bias": (False, ""),
        "init": ("scratch", "YOLOX has no ImageNet weights: it trains from random ones."),
        "ema": (0.0001, ""),
        "unmixed_epochs": (constant, "The last epochs mix no images, as published."),
    }
