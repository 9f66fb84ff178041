"""FKD: inputs are maps ``student0``, ``teacher0``, ... and the weights of all learned layers."""

from functools import partial
from types import SimpleNamespace

from torch import Tensor

from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import levels, losses, preset_method, widths

NAMES = {
    "kd_channel_loss": "loss_fkd_channel",
    "kd_spatial_loss": "loss_fkd_spatial",
    "kd_feat_loss": "loss_fkd_feature",
    "kd_nonlocal_loss": "loss_fkd_nonlocal",
}
STRIDES = {"retinanet": [8, 16, 32, 64, 128], "faster_rcnn": [4, 8, 16, 32, 64]}


def by_term(preset: str, detector: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the terms by the names of the published code."""
    necks = levels(inputs, "student"), levels(inputs, "teacher")
    strides = STRIDES[detector][: len(necks[0])]
    views = [SimpleNamespace(neck=neck, strides=strides) for neck in necks]
    channels = [widths(neck, strides) for neck in necks]
    method = preset_method(preset, detector)
    terms = losses(method, *views, None, channels, inputs["weights"])
    return {published: terms[ours] for published, ours in NAMES.items()}


def in_all(preset: str, detector: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the sum of all terms, which is what mmrazor's loss returns."""
    terms = by_term(preset, detector, inputs)
    return {"loss": sum(terms.values(), inputs["weights"].new_zeros(()))}


PORTS: dict[str, Port] = {
    "fkd_one_stage": partial(by_term, "fkd", "retinanet"),
    "fkd_two_stage": partial(by_term, "fkd", "faster_rcnn"),
    "fkd_mmrazor": partial(in_all, "fkd_mmrazor", "faster_rcnn"),
}
