"""A detector that ``kd export`` wrote as ONNX, run by onnxruntime."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd.common.errors import UserError
from kd.inference.detect_onnx import resize
from kd.inference.detector import Image, ImageDetections

ONNX_FILE = "detector.onnx"
"""The ONNX form in an export folder."""
ARRAYS = ["images", "boxes", "scores", "labels"]
"""Names of the input and the outputs of an exported network."""


class _Batch(NamedTuple):
    """Resized images of one size, and the factors that return boxes to the original pixels."""

    images: Any
    """``(B, 3, H, W)``, red first, 0 to 255."""
    scales: Any
    """``(B, 1, 4)``"""


class OnnxDetector:
    """An exported detector; it resizes images as the script beside it does."""

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        """Load a file; UserError if ``kd export`` did not write it, or for a GPU without support.

        ``threads``: CPU threads (default: onnxruntime's).
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=[_provider(device)]
            )
        except Exception as error:  # onnxruntime's errors have no public base class
            raise UserError(
                f"{path}: onnxruntime cannot load it: {str(error).splitlines()[0]}"
            ) from None
        facts = self._session.get_modelmeta().custom_metadata_map
        if missing := {"classes", "resize"} - facts.keys():
            raise UserError(
                f"{path}: metadata without '{min(missing)}'; write the file with `kd export RUN`"
            )
        if (arrays := _arrays(self._session)) != ARRAYS:
            raise UserError(
                f"{path}: its inputs and outputs are {', '.join(arrays)}, not {', '.join(ARRAYS)}; "
                "write the file with `kd export RUN`"
            )
        self._path = path
        self.classes: list[str] = _read_fact(path, facts, "classes", _are_names)
        self.facts = facts
        """All metadata of the file."""
        self._rule: dict[str, Any] = _read_fact(path, facts, "resize", _is_rule)
        self.size: tuple[int, int] = (self._rule["width"], self._rule["height"])
        self.device = device
        self.runtime = f"onnxruntime {onnxruntime.__version__}"

    def detect(self, images: Sequence[Image]) -> list[ImageDetections]:
        """Return the detections in each image; images of one size are computed together."""
        resized = [resize(image, self._rule) for image in images]
        groups = defaultdict(list)
        for index, pixels in enumerate(resized):
            groups[pixels.shape].append(index)
        detections: dict[int, ImageDetections] = {}
        for indices in groups.values():
            batch = _batch_of([images[i] for i in indices], [resized[i] for i in indices])
            detections |= zip(indices, self.predict(batch), strict=True)
        return [detections[index] for index in range(len(images))]

    def prepare(self, images: Sequence[Image]) -> _Batch:
        """Return images of one size as the network's input."""
        return _batch_of(images, [resize(image, self._rule) for image in images])

    def predict(self, batch: _Batch) -> list[ImageDetections]:
        """Return the detections in a batch of ``prepare``."""
        boxes, scores, labels = self._session.run(None, {"images": batch.images})
        if labels.size and labels.max() >= len(self.classes):
            raise UserError(
                f"{self._path}: detects class {labels.max()}, but its metadata name "
                f"{len(self.classes)} classes; write the file with `kd export RUN`"
            )
        rows = zip(boxes * batch.scales, scores, labels, strict=True)
        return [ImageDetections(*(column[row[1] > 0] for column in row)) for row in rows]


def onnx_file(source: Path) -> Path | None:
    """Return the ONNX file that a path names, or an export folder holds; None for other paths.

    UserError for an absent ONNX file.
    """
    if source.suffix == ".onnx":
        if not source.is_file():
            raise UserError(f"{source}: no such file; write it with `kd export RUN --to DIR`")
        return source
    path = source / ONNX_FILE
    return path if path.is_file() else None


def _arrays(session: Any) -> list[str]:
    """Return the names of a network's inputs and outputs."""
    return [one.name for one in (*session.get_inputs(), *session.get_outputs())]


def _read_fact(
    path: Path, facts: Mapping[str, str], key: str, is_valid: Callable[[Any], bool]
) -> Any:
    """Return the value of a key of the metadata; UserError if it is not valid."""
    try:
        value = json.loads(facts[key])
    except ValueError:
        value = None
    if not is_valid(value):
        raise UserError(
            f"{path}: metadata '{key}' is {facts[key][:40]!r}, which `kd export` does not write; "
            "write the file with `kd export RUN`"
        )
    return value


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _is_rule(value: Any) -> bool:
    """Return True for a whole width and height from 1, and a truth value for the ratio."""
    if not isinstance(value, dict) or not isinstance(value.get("keep_ratio"), bool):
        return False
    sides = [value.get("width"), value.get("height")]
    return all(type(side) is int and side > 0 for side in sides)


def _batch_of(images: Sequence[Image], resized: Sequence[Any]) -> _Batch:
    scales = [
        np.tile(np.array(image.shape[1::-1]) / pixels.shape[1::-1], 2)
        for image, pixels in zip(images, resized, strict=True)
    ]
    stacked = np.stack([pixels.transpose(2, 0, 1) for pixels in resized])
    return _Batch(np.ascontiguousarray(stacked), np.array(scales, np.float32)[:, None])


def _provider(device: str) -> Any:
    import onnxruntime

    kind, _, number = device.partition(":")
    if kind == "cpu":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise UserError(
            f"device '{device}': this onnxruntime runs on the CPU only; install onnxruntime-gpu, "
            "or give cpu"
        )
    return ("CUDAExecutionProvider", {"device_id": int(number or 0)})
