"""AP of exported forms on the test split, compared with ``metrics.json``."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision  # noqa: F401, registers the operators of the TorchScript form

from kd.common.progress import progress
from kd.config.library import Library
from kd.data.decoding import load
from kd.data.readers import image_path, read_split
from kd.evaluation.evaluate import metrics_of
from kd.evaluation.stored import StoredDetections
from kd.export.export import TrainedRun
from kd.export.forms import Form
from kd.inference.detect_onnx import resize
from kd.inference.detector import Image, ImageDetections
from kd.inference.onnx_detector import OnnxDetector
from kd.records import inputs

LARGEST_DIFFERENCE = 0.1
"""Points of AP by which a form may differ from the run."""


class FormCheck(NamedTuple):
    """Result of one form; AP in points, 0 to 100."""

    form: Form
    ap: float
    difference: float
    """AP less that of the run."""
    megabytes: float
    """Size of its files."""

    @property
    def passed(self) -> bool:
        return abs(self.difference) <= LARGEST_DIFFERENCE


def check(
    run: TrainedRun, written: Mapping[Form, Sequence[Path]], library: Library
) -> list[FormCheck]:
    """Return the AP of each written form on the test split.

    UserError if its data set changed since the run was evaluated.
    """
    expected = 100 * (run.ap or 0)
    _, dataset = inputs.entry_of(run.config, run.directory, "test", library)
    truth = read_split(dataset, "test").coco
    results = []
    for form, files in written.items():
        detector = _LOADERS[form](run, files)
        parts = []
        images = truth["images"]
        for image in progress(images, len(images), f"checking {form}"):
            detections = detector.detect(load(image_path(dataset, "test", image)))
            columns = (detections.boxes, detections.labels, detections.scores)
            parts.append(StoredDetections.of_image(image.get("img_id", image["id"]), *columns))
        stored = StoredDetections.concatenate(parts)
        ap = 100 * (metrics_of(stored.positioned(truth), truth).AP or 0)
        size = sum(path.stat().st_size for path in files) / 1e6
        results.append(FormCheck(form, ap, ap - expected, size))
    return results


class _Onnx:
    def __init__(self, run: TrainedRun, files: Sequence[Path]) -> None:
        self.detector = OnnxDetector(files[0], threads=torch.get_num_threads())

    def detect(self, image: Image) -> ImageDetections:
        return self.detector.detect([image])[0]


class _TorchScript:
    def __init__(self, run: TrainedRun, files: Sequence[Path]) -> None:
        self.network = torch.jit.load(str(files[0]))
        self.rule = run.rule.settings

    def detect(self, image: Image) -> ImageDetections:
        resized = resize(image, self.rule)
        with torch.no_grad():
            outputs = self.network(torch.from_numpy(resized.transpose(2, 0, 1)[None].copy()))
        boxes, scores, labels = (output[0].numpy() for output in outputs)
        sides = [image.shape[1] / resized.shape[1], image.shape[0] / resized.shape[0]] * 2
        is_object = scores > 0
        return ImageDetections(boxes[is_object] * sides, scores[is_object], labels[is_object])


class _Mmdet:
    def __init__(self, run: TrainedRun, files: Sequence[Path]) -> None:
        import mmdet.apis

        self.infer = mmdet.apis.inference_detector
        with redirect_stdout(StringIO()):  # mmengine prints where it loads from
            self.detector = mmdet.apis.init_detector(str(files[0]), str(files[1]), device="cpu")

    def detect(self, image: Image) -> ImageDetections:
        instances = self.infer(self.detector, image[:, :, ::-1].copy()).pred_instances
        parts = (instances.bboxes, instances.scores, instances.labels)
        return ImageDetections(*(part.numpy() for part in parts))


_LOADERS: dict[Form, Any] = {"mmdet": _Mmdet, "onnx": _Onnx, "torchscript": _TorchScript}
