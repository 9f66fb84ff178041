"""Gradients of the losses of a student's training on its neck, for one image."""

import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.figures.networks import RunNetworks
from kd.methods.ops.masks import object_mask
from kd.observers import Batch, Observation, Progress, observe
from kd.training.distiller import Distiller

SETTLED = Progress(step=sys.maxsize)
"""Training progress after the warm-ups of methods and before their decays."""


class Gradients(NamedTuple):
    """Gradients on the neck levels of one image."""

    norms: dict[str, list[np.ndarray]]
    """By term, for each level (H, W): L2 norm over channels of the gradient at each cell."""
    objects: list[np.ndarray]
    """Masks (H, W) by level: true for a cell on an object, of any size."""
    strides: list[int]
    """Pixels per cell by level."""


def gradients(run: RunNetworks, sample: dict[str, Any], seed: int = 0) -> Gradients:
    """Return g = |dL/dF|_2 over the channels of each neck level F of a run's student.

    The definition is that of DeFeat's supplement (Guo et al., CVPR 2021), figures 2 and 3. L is
    ``total``, the training loss; ``detection``, mmdet's losses together; and for a distilled run
    ``distillation``, all its terms together, and each term by its name. ``sample`` is one of
    ``annotated_images``, and ``seed`` that of sampled RoIs. UserError if a method's adaptation
    layers are not those of the training.
    """
    run.check_adapters()
    batch = replace(run.batch(sample), progress=SETTLED)
    student = observe(run.detector, batch, frozen=False)
    # Detached stages have no graph of the backbone. The neck needs its graph, since a level that is
    # computed from another, as P6 from P5, passes its gradient on.
    student.stages = [stage.detach().requires_grad_() for stage in student.stages]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        losses = _losses(run, student, batch)
    by_loss = {name: _gradient(loss, student.neck) for name, loss in losses.items()}
    detection, *distilled = by_loss.values()
    by_term = {"total": _sum([detection, *distilled]), "detection": detection}
    if distilled:
        by_term["distillation"] = _sum(distilled)
    by_term |= by_loss
    sizes = [(level.shape[-2], level.shape[-1]) for level in student.neck]
    masks = [
        object_mask(batch, stride, size)
        for stride, size in zip(student.strides, sizes, strict=True)
    ]
    return Gradients(
        {name: [_norm(level) for level in levels] for name, levels in by_term.items()},
        [mask[0].bool().cpu().numpy() for mask in masks],
        student.strides,
    )


def _losses(run: RunNetworks, student: Observation, batch: Batch) -> dict[str, Tensor]:
    """Return the scalars whose sum is the loss of a step: detection first, then each term."""
    losses: dict[str, dict[str, Any]] = {"detection": student.losses()}
    if isinstance(run.model, Distiller):
        teachers = run.model.observe_teachers(batch)
        distilled = run.model.distillation(student, teachers, batch)
        losses |= {name: {name: value} for name, value in distilled.items()}
    return {name: run.model.parse_losses(terms)[0] for name, terms in losses.items()}


def _gradient(loss: Tensor, maps: list[Tensor]) -> list[Tensor]:
    """Return the gradient on each map; zeros if the loss does not depend on it."""
    if not loss.requires_grad:
        return [torch.zeros_like(level) for level in maps]
    gradients = torch.autograd.grad(
        loss, maps, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(gradients)


def _sum(terms: list[list[Tensor]]) -> list[Tensor]:
    return [torch.stack(level).sum(0) for level in zip(*terms, strict=True)]


def _norm(gradient: Tensor) -> np.ndarray:
    """Return the norm (H, W) over the channels of a gradient (1, C, H, W)."""
    return gradient[0].norm(dim=0).cpu().numpy()
