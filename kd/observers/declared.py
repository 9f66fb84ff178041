"""Check of an observer that a detector's file declares for a head that no table here lists."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from kd.common.errors import UserError
from kd.common.modules import LazyModule
from kd.observers.base import Batch

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

SIDE = 320
"""Side in pixels of the image that an observer is tried on."""


def check_declared(detector: Any) -> None:
    """Raise UserError if the declared observer does not observe the losses of a detector's head.

    Copies of the detector compute the losses of an image with one box, observed and by mmdet. They
    must be equal, and every prior must have a class output, a decoded box and an assignment. The
    detector and all generators of random numbers stay unchanged.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batch = Batch(torch.randn(1, 3, SIDE, SIDE), [_sample()])
        try:
            problem = _problem(detector, batch)
        # Whatever a head of unknown code raises, it is not what the observer expects.
        except Exception as error:
            problem = f"reading it raises {type(error).__name__}: {error}"
    if problem:
        head = getattr(detector, "roi_head", None) or detector.bbox_head
        text = " ".join(problem.split())
        raise UserError(
            f"the detector's file declares 'observer: {detector.observer}' for "
            f"{type(head).__name__}, but {text}; declare another observer "
            "(kd/observers/heads.py lists them) or none"
        )


def _problem(detector: Any, batch: Batch) -> str:
    """Return what differs from the head's own losses and shapes; empty if nothing does."""
    from kd.observers import observe

    # Two copies, because the losses of some heads depend on the steps before.
    observed, alone = (copy.deepcopy(detector).cpu().train() for _ in range(2))
    torch.manual_seed(0)  # samplers draw at random
    observation = observe(observed, batch, frozen=False)
    losses = observation.losses()
    torch.manual_seed(0)
    expected = alone.loss(batch.inputs, batch.samples)
    for name, value in expected.items():
        if not torch.allclose(_total(losses[name]), _total(value), rtol=1e-4, equal_nan=True):
            return f"its losses ('{name}') are not those that the head computes"
    if getattr(observation, "assignment", None) is None:
        return ""
    priors, shape = len(observation.priors), tuple(observation.assignment.shape)
    if shape != (1, priors) or tuple(observation.logits.shape[:2]) != (1, priors):
        outputs = tuple(observation.logits.shape[:2])
        return f"of {priors} priors it assigns {shape[1]} and the head has outputs for {outputs[1]}"
    image, prior = (observation.assignment >= 0).nonzero(as_tuple=True)
    boxes = tuple(observation.boxes(image, prior).shape)
    return "" if boxes == (len(prior), 4) else f"boxes have the shape {boxes}"


def _sample() -> Any:
    """Return the annotation of an image with one box."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    size = (SIDE, SIDE)
    sample = DetDataSample(metainfo={"img_shape": size, "pad_shape": size, "ori_shape": size})
    sample.set_metainfo({"batch_input_shape": size, "scale_factor": (1.0, 1.0)})
    box = torch.tensor([[SIDE / 4, SIDE / 4, SIDE * 3 / 4, SIDE * 3 / 4]])
    sample.gt_instances = InstanceData(bboxes=box, labels=torch.zeros(1, dtype=torch.long))
    return sample


def _total(value: Any) -> torch.Tensor:
    values = value if isinstance(value, list | tuple) else [value]
    return torch.stack([level.sum() for level in values]).sum()
