"""Where the methods of a trained run look in one image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import kd.runtime  # noqa: F401
from analysis.figures.networks import Probe, shown
from kd.common.errors import UserError
from kd.config.composed import ComposedConfig
from kd.data.loader import fast_loader
from kd.data.sampling import build
from kd.methods.base import Focus
from kd.observers import observe
from kd.training.distiller import Distiller


@dataclass(frozen=True)
class View:
    """An image of the training set and what each method of a run looks at in it."""

    image: np.ndarray
    """(H, W, 3), 0 to 1, padded as the network sees it."""
    mean: np.ndarray
    std: np.ndarray
    """(3,): what undoes the normalisation of crops."""
    boxes: np.ndarray
    """(G, 4), ground truth, xyxy in pixels."""
    found: dict[str, Focus]
    """By method term."""


def view(directory: Path, index: int = 0) -> View:
    """Return what the methods of a distilled run look at in training image ``index``."""
    config = ComposedConfig.read(directory)
    if config.kind != "distiller":
        raise UserError(f"{directory}: trained without a method; nothing to look at")
    probe = Probe.load(directory)
    model: Distiller = probe.model
    dataset = build(fast_loader(config.loader("train"), 0)["dataset"])
    if not 0 <= index < len(dataset):
        raise UserError(f"image {index}: the training set has images 0 to {len(dataset) - 1}")
    batch = probe.batch(dataset[index])
    assert batch.mean is not None and batch.std is not None
    with torch.no_grad():
        student, teachers = (
            observe(probe.detector, batch, frozen=True),
            model.observe_teachers(batch),
        )
        student.losses()
        found = {
            name: term.focus(student, teachers[term.needs.teacher], batch)
            for name, term in model.terms.items()
        }
    return View(
        image=shown(batch).numpy(),
        mean=batch.mean.cpu().numpy(),
        std=batch.std.cpu().numpy(),
        boxes=batch.gt_boxes[0].cpu().numpy(),
        found=found,
    )
