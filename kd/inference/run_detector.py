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

    def __init__(self, directory: Path, device: str, size: tuple[int, int] | None = None) -> None:
        """Load a run's weights; UserError for a classifier, and if they do not fit the run.

        ``size``: width and height that images are resized to (default: the run's).
        """
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
        self.size = size or composed.image_sizes("test")[0]
        self.device = device
        self.runtime = f"torch {torch.__version__.partition('+')[0]}"
        self._network = weights.frozen(composed.student, state, path).to(device)
        steps = _of_arrays(composed.pipelines("test")[0])
        self._pipeline = Compose([_resized_to(self.size, step) for step in steps])

    def detect(self, images: Sequence[Image]) -> list[ImageDetections]:
        """Return the detections in each image; images of one size are computed together."""
        samples = self.prepare(images)
        groups = defaultdict(list)
        for index, sample in enumerate(samples):
            groups[sample["inputs"].shape].append(index)
        detections: dict[int, ImageDetections] = {}
        for indices in groups.values():
            batch = [samples[index] for index in indices]
            detections |= zip(indices, self.predict(batch), strict=True)
        return [detections[index] for index in range(len(images))]

    def prepare(self, images: Sequence[Image]) -> list[Any]:
        """Return images as the test pipeline resizes and packs them."""
        return [self._pipeline({"img": image[:, :, ::-1]}) for image in images]

    def predict(self, batch: list[Any]) -> list[ImageDetections]:
        """Return the detections in images of ``prepare`` that have one size."""
        try:
            with torch.no_grad():
                samples = self._network.test_step(pseudo_collate(batch))
        except torch.OutOfMemoryError:
            count = len(batch)
            raise UserError(
                f"a batch of {count} does not fit into the memory of {self.device}; give a smaller "
                "--batch, or --device cpu"
            ) from None
        return [_sorted(sample.pred_instances) for sample in samples]


def _of_arrays(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a test pipeline that reads images in memory in place of files."""
    reader, *others = pipeline
    if reader["type"] != "LoadImageFromFile":
        raise UserError(f"config.json: the test pipeline begins with {reader['type']}; "
                        "only LoadImageFromFile can be replaced")  # fmt: skip
    return [{"type": "mmdet.LoadImageFromNDArray"}, *others]


def _resized_to(size: tuple[int, int], step: dict[str, Any]) -> dict[str, Any]:
    """Return a transform with another size of its images, width and height."""
    if step.keys() >= {"width", "height"}:
        return {**step, "width": size[0], "height": size[1]}
    return {**step, "scale": size} if "scale" in step else step


def _sorted(instances: Any) -> ImageDetections:
    scores = instances.scores.cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    boxes, labels = instances.bboxes.cpu().numpy(), instances.labels.cpu().numpy()
    return ImageDetections(boxes[order], scores[order], labels[order])
