"""A detector loaded from the directory of a run."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope

import kd.models.mmdet_setup  # noqa: F401
from kd.common.errors import UserError
from kd.common.results import require_result
from kd.config.compose import WEIGHTS
from kd.config.composed import ComposedConfig, read_config
from kd.inference.detector import Image, ImageDetections
from kd.models import weights
from kd.models.registration import register


class RunDetector:
    """The detector of a run; of a distilled run, its student.

    It computes what ``kd predict`` computes: the run's test pipeline, one image at a time or
    several of one size. Images of other sizes are never padded to each other, so that the
    detections in an image do not depend on its batch.
    """

    def __init__(self, directory: Path, device: str) -> None:
        """Load a run's weights; UserError for a classifier, and if they do not fit the run."""
        config = read_config(directory)
        composed = ComposedConfig(config)
        if composed.kind == "classifier":
            raise UserError(f"{directory}: a classifier; give the run of a detector")
        path = directory / WEIGHTS
        require_result(path)
        register(config)
        init_default_scope("mmdet")
        content = weights.read(path)
        weights.check_classes(content, path, composed.class_names)
        state = weights.state_in(content, path)
        self.classes = composed.class_names
        self.size = composed.image_sizes("test")[0]
        self.device = device
        self._network = weights.frozen(composed.student, state, path).to(device)
        self._pipeline = Compose(_of_arrays(composed.pipelines("test")[0]))

    def detect(self, images: Sequence[Image]) -> list[ImageDetections]:
        """Return the detections in each image; images of one size are computed together."""
        samples = [self._resized(image) for image in images]
        groups = defaultdict(list)
        for index, sample in enumerate(samples):
            groups[sample["inputs"].shape].append(index)
        detections: dict[int, ImageDetections] = {}
        for indices in groups.values():
            batch = self._normalized([samples[index] for index in indices])
            detections |= zip(indices, self.predict(batch), strict=True)
        return [detections[index] for index in range(len(images))]

    def prepare(self, images: Sequence[Image]) -> dict[str, Any]:
        """Return images of one size as a batch on the device."""
        return self._normalized([self._resized(image) for image in images])

    def predict(self, batch: dict[str, Any]) -> list[ImageDetections]:
        """Return the detections in a batch of ``prepare``."""
        with torch.no_grad():
            samples = self._network(**batch, mode="predict")
        return [_sorted(sample.pred_instances) for sample in samples]

    def _resized(self, image: Image) -> dict[str, Any]:
        """Return an image (H, W, 3) as the test pipeline resizes and packs it."""
        return self._pipeline({"img": np.ascontiguousarray(image[:, :, ::-1])})

    def _normalized(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return samples of one size as normalized images ``(B, 3, H, W)`` on the device."""
        return self._network.data_preprocessor(pseudo_collate(samples), training=False)


def _of_arrays(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a test pipeline that reads images in memory in place of files."""
    reader, *others = pipeline
    if reader["type"] != "LoadImageFromFile":
        raise UserError(f"config.json: the test pipeline begins with {reader['type']}; "
                        "only LoadImageFromFile can be replaced")  # fmt: skip
    return [{"type": "mmdet.LoadImageFromNDArray"}, *others]


def _sorted(instances: Any) -> ImageDetections:
    scores = instances.scores.cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    boxes, labels = instances.bboxes.cpu().numpy(), instances.labels.cpu().numpy()
    return ImageDetections(boxes[order], scores[order], labels[order])
