"""The ONNX form: one file from pixels to detections, and a script that runs it."""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from kd.common.files import replacing
from kd.export.network import ExportedDetector
from kd.export.operators import OPSET, portable_operators
from kd.export.resizing import ResizeRule
from kd.inference import detect_onnx
from kd.inference.onnx_detector import ONNX_FILE

SCRIPT = "detect_onnx.py"
OUTPUTS = ("boxes", "scores", "labels")
TOLERANCE = 0.01
"""Largest difference between the sorted scores of both networks for random pixels."""


def write_onnx(
    network: ExportedDetector, rule: ResizeRule, facts: Mapping[str, str], folder: Path
) -> Path:
    """Write ``detector.onnx`` with ``facts`` as its metadata, and the script; return the file.

    The batch and, if images are not resized to one size, height and width of the input may vary.
    RuntimeError if the file computes other scores than the network.
    """
    path = folder / ONNX_FILE
    sizes = {2: "height", 3: "width"} if rule.keep_ratio else {}
    axes = {"images": {0: "batch"} | sizes, **{name: {0: "batch"} for name in OUTPUTS}}
    with replacing(path) as temporary:
        with portable_operators(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a trace warns of each shape that it records
            torch.onnx.export(
                network,
                (example(rule, 1),),
                str(temporary),
                input_names=["images"],
                output_names=[*OUTPUTS],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        model = onnx.load(str(temporary))
        onnx.helper.set_model_props(model, dict(facts))
        model.producer_name = "kd export"
        onnx.save(model, str(temporary))
        _compare(network, temporary, example(rule, 2))
    shutil.copyfile(detect_onnx.__file__, folder / SCRIPT)
    return path


def example(rule: ResizeRule, images: int) -> torch.Tensor:
    """Return random pixels (B, 3, H, W) of a size that the network accepts.

    A trace records both branches of paddings only if its example needs them: no map of a Swin
    Transformer has sides that are multiples of its window, 7.
    """
    width, height = (384, 256) if rule.keep_ratio and not rule.is_padded else rule.size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (images, 3, height, width), generator=generator).float()


def onnx_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return metadata as text: strings unchanged, other values as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()
    }


def _compare(network: ExportedDetector, path: Path, images: torch.Tensor) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"images": images.numpy()})[0]
    with torch.no_grad():
        expected = network(images).scores.numpy()
    difference = float(np.abs(scores - expected).max(initial=0))
    if not difference < TOLERANCE:
        raise RuntimeError(
            f"the exported network computes other scores (difference {difference:.3f}); "
            "report this detector"
        )
