"""GID: inputs are neck maps and, of every prior, logits, box codes and decoded boxes.

``strides`` by level; ``sizes`` (B, 2): each image without padding; ``boxes`` (G, 4): ground truth,
``objects`` (B,) in each image. Where a term reads them: maps ``student0``, ..., ``weights`` of the
adapter; ``priors`` (N, 4), ``student_logits`` (B, N, C), ``student_codes`` and ``student_boxes``
(B, N, 4), and the teacher's.
"""

from functools import partial
from typing import Any

from torch import Tensor

from kd.observers import Channels
from tests.methods.features.gid.gid_scene import View
from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import levels, losses, preset_method, widths
from tests.methods.scenes import make_batch


def terms(preset: str, settings: dict[str, Any], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the terms whose weight in the preset is not 0."""
    strides = inputs["strides"].tolist()
    views = []
    for side in ("student", "teacher"):
        names = {"logits": "logits", "encoded": "codes", "decoded": "boxes"}
        read = {name: inputs.get(f"{side}_{key}") for name, key in names.items()}
        maps = {"strides": strides, "neck": levels(inputs, side)}
        views.append(View(**maps, **read, priors=inputs.get("priors")))
    boxes = list(inputs["boxes"].split(inputs["objects"].tolist()))
    labels = [box[:, 0].long() for box in boxes]
    sizes = inputs["sizes"]
    images = sizes.new_zeros(len(sizes), 3, *sizes.amax(0).tolist())
    batch = make_batch(images, boxes, labels, sizes.tolist())
    channels = [widths(view.neck, strides) if view.neck else Channels([1], []) for view in views]
    method = preset_method(preset, **settings)
    return losses(method, *views, batch, channels, inputs.get("weights"))


TRUTH = {"instances": "truth"}
PORTS: dict[str, Port] = {
    "gid_rewrite": partial(terms, "gid_rewrite", {}),
    "gid_feature": partial(terms, "gid_feature", {**TRUTH, "norm": "squared"}),
    "gid_relation": partial(terms, "gid_relation", TRUTH),
    "gid_response": partial(terms, "gid_response", TRUTH),
}
