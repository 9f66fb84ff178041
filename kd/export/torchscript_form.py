"""The TorchScript form: the exported network as one file for ``torch.jit.load``."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from kd.common.files import replacing
from kd.export.network import ExportedDetector
from kd.export.onnx_form import example
from kd.export.operators import portable_operators
from kd.export.resizing import ResizeRule

TORCHSCRIPT_FILE = "detector.pt"
FACTS = "facts.json"
"""Extra file in the archive with the metadata of the ONNX form."""


def write_torchscript(
    network: ExportedDetector, rule: ResizeRule, facts: Mapping[str, str], folder: Path
) -> Path:
    """Write ``detector.pt``. It needs torch and torchvision, whose NMS it calls."""
    path = folder / TORCHSCRIPT_FILE
    with portable_operators(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trace warns of each shape that it records
        traced = torch.jit.trace(network, example(rule, 1), check_trace=False)
        with replacing(path) as temporary:
            torch.jit.save(traced, str(temporary), _extra_files={FACTS: json.dumps(dict(facts))})
    return path
