"""Where in a student's neck the losses of its training pull, in one image."""

import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.figures.networks import Probe
from kd.methods.ops.masks import object_mask
from kd.observers import Batch, Observation, Progress, observe
from kd.training.distiller import Distiller

SETTLED = Progress(step=sys.maxsize)
"""When the warm-ups of methods are over, and their decays have not begun."""


class Gradients(NamedTuple):
    """Of one image, by neck level."""

    norms: dict[str, list[np.ndarray]]
    """By term (H, W): the L2 norm over channels of its gradient at each cell."""
    objects: list[np.ndarray]
    """(H, W): whether a cell lies on an object, of any size."""
    strides: list[int]
    """Pixels per cell."""


def gradients(run: Probe, sample: dict[str, Any], seed: int = 0) -> Gradients:
    """Return g = |dL/dF|_2 over the channels of each neck level F of a run's student.

    DeFeat's supplement (Guo et al., CVPR 2021), figures 2 and 3. L: ``total``, which is trained
    on; ``detection``, mmdet's losses together; of a distilled run ``distillation``, all its terms
    together, and each by its name. ``sample``: of ``analysis.figures.networks.images``; ``seed``:
    of the RoIs that are sampled. UserError where a method's adaptation layers are not those of the
    training.
    """
    run.check_adapters()
    batch = replace(run.batch(sample), progress=SETTLED)
    student = observe(run.detector, batch, frozen=False)
    # Leaves: no graph is kept of the backbone. That of the neck is, for a level may be made of
    # another, as P6 of P5, and hands its gradient on.
    student.stages = [stage.detach().requires_grad_() for stage in student.stages]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        losses = _losses(run, student, batch)
    each = {name: _gradient(loss, student.neck) for name, loss in losses.items()}
    detection, *distilled = each.values()
    found = {"total": _sum([detection, *distilled]), "detection": detection}
    if distilled:
        found["distillation"] = _sum(distilled)
    sizes = [(level.shape[-2], level.shape[-1]) for level in student.neck]
    masks = [
        object_mask(batch, stride, size)
        for stride, size in zip(student.strides, sizes, strict=True)
    ]
    return Gradients(
        {name: [_norm(level) for level in levels] for name, levels in (found | each).items()},
        [mask[0].bool().cpu().numpy() for mask in masks],
        student.strides,
    )


def _losses(run: Probe, student: Observation, batch: Batch) -> dict[str, Tensor]:
    """Return the scalars that add up to the loss of a step: detection first, then each term."""
    losses: dict[str, dict[str, Any]] = {"detection": student.losses()}
    if isinstance(run.model, Distiller):
        teachers = run.model.observe_teachers(batch)
        distilled = run.model.distillation(student, teachers, batch)
        losses |= {name: {name: value} for name, value in distilled.items()}
    return {name: run.model.parse_losses(terms)[0] for name, terms in losses.items()}


def _gradient(loss: Tensor, maps: list[Tensor]) -> list[Tensor]:
    """Return the gradient at each map; 0 where the loss does not depend on it."""
    if not loss.requires_grad:
        return [torch.zeros_like(level) for level in maps]
    found = torch.autograd.grad(
        loss, maps, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)


def _sum(terms: list[list[Tensor]]) -> list[Tensor]:
    return [torch.stack(level).sum(0) for level in zip(*terms, strict=True)]


def _norm(gradient: Tensor) -> np.ndarray:
    """Return (H, W) of a gradient (1, C, H, W)."""
    return gradient[0].norm(dim=0).cpu().numpy()
