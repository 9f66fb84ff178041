"""Training targets that a head computed in a detection loss."""

from types import SimpleNamespace
from typing import Any

import torch

from kd.observers.recording import wrapped
from tests.support.tiny_detectors import CLASSES


def trained(observation: Any, data: Any) -> SimpleNamespace:
    """Return the targets that an observation's head computed: labels, weights and codes."""
    if observation.head.__class__.__name__.endswith("YOLOXHead"):
        return trained_by_image(observation)
    targets, make = [], observation.head.get_targets

    def recorded(*args: Any, **kwargs: Any) -> Any:
        targets.extend(make(*args, **kwargs))
        return tuple(targets)

    observation.head.get_targets = recorded
    torch.manual_seed(0)
    observation.losses()
    del observation.head.get_targets
    if hasattr(observation.head, "num_attrib"):  # YOLOv3: box, objectness, classes; negatives
        maps, negative = (torch.cat(levels, 1) for levels in targets)
        labels = torch.where(maps[..., 4] > 0, maps[..., 5:].argmax(2), CLASSES)
        weights = (maps[..., 4] > 0) | (negative > 0)
        return SimpleNamespace(labels=labels, weights=weights, codes=maps[..., :4])
    if observation.head.__class__.__name__ == "FCOSHead":  # all images of a level in a row
        labels, boxes = (
            torch.cat([level.unflatten(0, (2, -1)) for level in levels], 1) for levels in targets
        )
        codes = boxes / observation.prior_strides[:, None]
        return SimpleNamespace(labels=labels, weights=torch.ones_like(labels), codes=codes)
    while targets[0][0].dtype != torch.long:  # ATSS, GFL and RTMDet begin with their anchors
        targets.pop(0)
    labels, weights, codes = (torch.cat(levels, 1) for levels in targets[:3])
    return SimpleNamespace(labels=labels, weights=weights, codes=codes)


def trained_by_image(observation: Any) -> SimpleNamespace:
    """Return the targets of YOLOX's head, which computes them image by image."""
    labels, codes = [], []

    def recording(method: Any) -> Any:
        def recorded(*args: Any) -> Any:
            positive, classes, *rest = method(*args)
            labels.append(torch.full((len(positive),), CLASSES))
            labels[-1][positive] = classes.argmax(1)
            codes.append(torch.zeros(len(positive), 4))
            codes[-1][positive] = rest[2]
            return positive, classes, *rest

        return recorded

    observation.head.use_l1 = True
    with wrapped(observation.head, "_get_targets_single", recording):
        observation.losses()
    weights = torch.ones(len(labels), len(labels[0]))
    return SimpleNamespace(labels=torch.stack(labels), weights=weights, codes=torch.stack(codes))
