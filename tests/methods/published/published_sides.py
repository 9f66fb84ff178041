"""LD, with soft labels, and BCKD on the inputs of golden data.

Maps of all levels lie one after another: ``sides`` (B, 4*(R+1), N), the logits of distributions of
box sides, and ``classes`` (B, C, N); ``counts`` are the priors of each level, ``sizes`` its height
and width, and ``valid`` the priors that take part.
"""

from functools import partial

import torch
from torch import Tensor

from kd.observers import Candidates
from kd.training.image_groups import grouped_losses
from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import preset_method, summed
from tests.methods.published.published_imitation import Inputs, batch_of

STRIDES = (8, 16, 32, 64)


class Sides:
    """Observation of a head with distributions of box sides, one prior at each cell."""

    candidate_softmax = False

    def __init__(self, inputs: Inputs, side: str, images: slice = slice(None)) -> None:
        self.inputs, self.side = inputs, side
        classes, sides = (inputs[f"{side}_{name}"][images] for name in ("classes", "sides"))
        counts, sizes = inputs["counts"].tolist(), inputs["sizes"].tolist()
        self.logits = classes.mT
        self.class_maps = [
            part.unflatten(2, size)
            for part, size in zip(classes.split(counts, 2), sizes, strict=True)
        ]
        self.sides = sides.mT.unflatten(2, (4, -1))
        self.priors = inputs["priors"]
        self.level_priors = list(self.priors.split(counts))
        self.assignment, self.sampled = inputs["assignment"][images], inputs["valid"][images]
        image = torch.arange(len(classes)).repeat_interleave(len(self.priors))
        index = torch.arange(len(self.priors)).repeat(len(classes))
        self.candidates = Candidates(image, index, self.assignment.flatten())

    def subset(self, images: slice) -> "Sides":
        return Sides(self.inputs, self.side, images)

    def candidate_logits(self, candidates: Candidates) -> Tensor:
        return self.logits[candidates.image, candidates.index]

    @property
    def prior_boxes(self) -> Tensor:
        """Boxes (B, N, 4), xyxy in pixels, at the mean distances from the centers."""
        bins = torch.arange(self.sides.shape[-1], dtype=self.sides.dtype)
        counts = self.inputs["counts"]
        strides = torch.tensor(STRIDES[: len(counts)]).repeat_interleave(counts)
        distances = (self.sides.softmax(-1) * bins).sum(-1) * strides[:, None]
        center = (self.priors[:, :2] + self.priors[:, 2:]) / 2
        return torch.cat([center - distances[..., :2], center + distances[..., 2:]], 2)


def terms(name: str, inputs: Inputs) -> Inputs:
    """Return the terms of methods that are joined by ``+``."""
    views = Sides(inputs, "student"), Sides(inputs, "teacher")
    batch = batch_of(inputs, len(inputs["assignment"]))
    losses: Inputs = {}
    for preset in name.split("+"):
        losses |= summed(grouped_losses(preset_method(preset, "gfl"), *views, batch, {}))
    return losses


PORTS: dict[str, Port] = {
    "ld_released": partial(terms, "ld_released+soft_labels_ld"),
    "bckd_released": partial(terms, "bckd_released"),
}
