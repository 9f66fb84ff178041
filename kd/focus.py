"""Where the methods of a trained run look in one image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

import kd.runtime  # noqa: F401
from kd import weights
from kd.data.loading import build
from kd.distiller import Distiller
from kd.errors import UserError
from kd.methods.base import Focus
from kd.observation import Batch, observe
from kd.settings.compose import WEIGHTS
from kd.settings.run import read_config


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
    config = read_config(directory)
    if config["model"]["type"] != "Distiller":
        raise UserError(f"{directory}: trained without a method; nothing to look at")
    init_default_scope("mmdet")
    model: Distiller = MODELS.build(ConfigDict(config["model"], _scope_="mmdet"))
    weights.load_strictly(model.student, directory / WEIGHTS)
    model.eval()
    dataset = build(config["train_dataloader"]["dataset"])
    if not 0 <= index < len(dataset):
        raise UserError(f"image {index}: the training set has images 0 to {len(dataset) - 1}")
    data = model.data_preprocessor(pseudo_collate([dataset[index]]), training=True)
    mean, std = (getattr(model.data_preprocessor, name).flatten() for name in ("mean", "std"))
    batch = Batch(data["inputs"], data["data_samples"], mean=mean, std=std)
    with torch.no_grad():
        student, teachers = (
            observe(model.student, batch, frozen=True),
            model.observe_teachers(batch),
        )
        student.losses()
        found = {
            name: term.focus(student, teachers[term.needs.teacher], batch)
            for name, term in model.terms.items()
        }
    return View(
        image=_shown(batch.inputs[0], mean, std),
        mean=mean.numpy(),
        std=std.numpy(),
        boxes=batch.gt_boxes[0].numpy(),
        found=found,
    )


def _shown(image: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> np.ndarray:
    """Return an image (3, H, W) as (H, W, 3) between 0 and 1."""
    pixels = image * std[:, None, None] + mean[:, None, None]
    return (pixels / 255).clamp(0, 1).permute(1, 2, 0).numpy()
