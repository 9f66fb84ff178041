"""Regions of one training image that the methods of a trained run use."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import kd.runtime  # noqa: F401
from analysis.figures.networks import RunNetworks, image_of
from kd.common.errors import UserError
from kd.config.composed import ComposedConfig
from kd.data.loader import fast_loader
from kd.data.sampling import build_dataset
from kd.methods.base import Focus
from kd.observers import observe
from kd.training.distiller import Distiller


@dataclass(frozen=True)
class FocusImage:
    """Image of the training set with the regions that each method of a run uses."""

    pixels: np.ndarray
    """(H, W, 3), 0 to 1, with the padding of the network's input."""
    mean: np.ndarray
    std: np.ndarray
    """(3,): with ``mean`` the normalization of crops."""
    boxes: np.ndarray
    """(G, 4): ground truth, xyxy in pixels."""
    focus: dict[str, Focus]
    """Regions by the term of the loss."""


def compute_focus(directory: Path, index: int = 0) -> FocusImage:
    """Return the regions that the methods of a distilled run use in training image ``index``."""
    config = ComposedConfig.read(directory)
    if config.kind != "distiller":
        raise UserError(f"{directory}: trained without a method, so it uses no regions")
    run = RunNetworks.load(directory)
    model: Distiller = run.model
    dataset = build_dataset(fast_loader(config.loader("train"), 0)["dataset"])
    if not 0 <= index < len(dataset):
        raise UserError(f"image {index}: the training set has images 0 to {len(dataset) - 1}")
    batch = run.batch(dataset[index])
    assert batch.mean is not None and batch.std is not None
    with torch.no_grad():
        student = observe(run.detector, batch, frozen=True)
        teachers = model.observe_teachers(batch)
        student.losses()  # assigns the priors, which some methods use
        focus = {
            name: term.focus(student, teachers[term.needs.teacher], batch)
            for name, term in model.terms.items()
        }
    return FocusImage(
        pixels=image_of(batch).numpy(),
        mean=batch.mean.cpu().numpy(),
        std=batch.std.cpu().numpy(),
        boxes=batch.gt_boxes[0].cpu().numpy(),
        focus=focus,
    )
