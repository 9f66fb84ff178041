"""MGD and FGD: inputs are maps ``student0``, ``teacher0``, ... and the weights of all layers.

MGD has ``mask0``, ... (B, H, W), 0 for masked cells. FGD has ``boxes<image>``, xyxy in pixels,
``extents`` (B, 2), height and width of the images without padding, and ``input_size`` of the batch.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import levels, losses, preset_method, widths
from tests.methods.scenes import make_batch


def views(inputs: dict[str, Tensor]) -> tuple[list[Any], list[Any]]:
    """Return the observations of student and teacher, and their widths."""
    necks = levels(inputs, "student"), levels(inputs, "teacher")
    strides = [8 * 2**level for level in range(len(necks[0]))]
    observations = [SimpleNamespace(neck=neck, strides=strides) for neck in necks]
    return observations, [widths(neck, strides) for neck in necks]


def mgd(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return ``loss`` with the masks of the input in place of random ones."""
    method: Any = preset_method("mgd")
    masks = levels(inputs, "mask")
    masked = SimpleNamespace(
        adapters=method.adapters,
        losses=lambda student, teacher, _, layers: method.generated(
            student, teacher, masks, layers
        ),
    )
    observations, channels = views(inputs)
    terms = losses(masked, *observations, None, channels, inputs["weights"])
    return {"loss": terms["loss_mgd"]}


def fgd(preset: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each term by the name of its region or relation."""
    observations, channels = views(inputs)
    extents = [tuple(extent) for extent in inputs["extents"].tolist()]
    boxes = [inputs[f"boxes{image}"] for image in range(len(extents))]
    labels = [torch.zeros(len(rows), dtype=torch.long) for rows in boxes]
    blank = torch.zeros(len(extents), 3, *inputs["input_size"].tolist())
    batch = make_batch(blank, boxes, labels, extents)
    terms = losses(preset_method(preset), *observations, batch, channels, inputs["weights"])
    return {name.removeprefix("loss_fgd_"): value for name, value in terms.items()}


PORTS: dict[str, Port] = {
    "mgd": mgd,
    "fgd": partial(fgd, "fgd"),
    "fgd_code": partial(fgd, "fgd_code"),
}
