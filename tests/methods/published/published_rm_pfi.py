"""RM and PFI: inputs are class maps, neck maps and, for RM, which prior belongs to which object."""

from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from kd.observers.dense import by_prior
from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import levels, losses, preset_method, widths
from tests.methods.scenes import make_batch

STRIDES = [8, 16, 32]


def class_rank(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return RM's class term of logits.

    ``student0``, ``teacher0``, ...: class maps (B, A*C, H, W); ``classes``: C; ``objects`` (B,):
    their number in each image; ``labels``: of the objects of all images; ``assignment`` (B, N).
    """
    classes = int(inputs["classes"])
    student, teacher = (
        SimpleNamespace(
            logits=by_prior(levels(inputs, side), classes), assignment=inputs["assignment"]
        )
        for side in ("student", "teacher")
    )
    labels = list(inputs["labels"].split(inputs["objects"].tolist()))
    boxes = [label.new_zeros(len(label), 4).double() for label in labels]
    batch = make_batch(inputs["student0"], boxes, labels)
    method = preset_method("rm", score="logit", localisation=False)
    terms = losses(method, student, teacher, batch, ([], []), None)
    return {"loss": terms["loss_rm_cls"]}


def imitation(
    preset: str, settings: dict[str, Any], class_output: str, inputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return PFI's term.

    ``student0``, ...: neck maps; ``student_class0``, ...: class maps of what is ``given``, logits
    or probabilities; ``weights``: of 1x1 convolutions where widths differ.
    """
    views, channels = [], []
    for side in ("student", "teacher"):
        classes, neck = levels(inputs, f"{side}_class"), levels(inputs, side)
        strides = STRIDES[: len(neck)]
        probabilities = (
            classes if class_output == "probability" else [maps.sigmoid() for maps in classes]
        )
        maps = {"class_maps": classes, "probability_maps": probabilities}
        views.append(SimpleNamespace(neck=neck, strides=strides, **maps))
        channels.append(widths(neck, strides))
    method = preset_method(preset, **settings)
    return {"loss": losses(method, *views, None, channels, inputs.get("weights"))["loss_pfi"]}


SQUARED = {"input": "probability", "reduction": "squared"}
PORTS: dict[str, Port] = {
    "rm_logit": class_rank,
    "pfi_mmrazor": partial(imitation, "pfi_mmrazor", {}, "logit"),
    "pfi_mmrazor_norm": partial(imitation, "pfi_mmrazor_norm", {}, "logit"),
    "pfi_linear": partial(imitation, "pfi_linear", {"input": "probability"}, "logit"),
    "pfi_squared": partial(imitation, "pfi", SQUARED, "probability"),
}
