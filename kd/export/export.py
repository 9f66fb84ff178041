"""Export of a run's detector: of a distilled run, its student."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope

import kd.models.mmdet_setup  # noqa: F401
from kd.common.errors import UserError
from kd.common.files import read_json, write_text
from kd.common.results import require_result
from kd.config.compose import WEIGHTS
from kd.config.composed import ComposedConfig, read_config
from kd.config.library import Library
from kd.export.forms import Form
from kd.export.mmdet_form import WEIGHTS as MMDET_WEIGHTS
from kd.export.mmdet_form import write_mmdet
from kd.export.network import ExportedDetector
from kd.export.onnx_form import onnx_facts, write_onnx
from kd.export.readme import readme
from kd.export.resizing import ResizeRule, resize_rule
from kd.export.torchscript_form import TORCHSCRIPT_FILE, write_torchscript
from kd.inference.onnx_detector import ONNX_FILE
from kd.models import weights
from kd.models.registration import register
from kd.records.inputs import outdated_results

FILES: dict[Form, str] = {
    "mmdet": MMDET_WEIGHTS,
    "onnx": ONNX_FILE,
    "torchscript": TORCHSCRIPT_FILE,
}
"""The file with the tensors of each form."""
LICENSE = (
    "Code: Apache-2.0. Training data {data}: {license}. Weights that the training started from: "
    "{start}. All of them may restrict the use of the weights."
)


@dataclass(frozen=True)
class TrainedRun:
    """The parts of a finished run that an export contains."""

    directory: Path
    config: dict[str, Any]
    state: dict[str, torch.Tensor]
    """Tensors of the detector."""

    @classmethod
    def read(cls, directory: Path) -> "TrainedRun":
        """Read a run; UserError for a classifier and for a run without weights."""
        config = read_config(directory)
        composed = ComposedConfig(config)
        if composed.kind == "classifier":
            raise UserError(f"{directory}: a classifier; give the run of a detector")
        path = directory / WEIGHTS
        require_result(path)
        content = weights.read(path)
        weights.check_classes(content, path, composed.class_names)
        return cls(directory, config, weights.state_in(content, path))

    @cached_property
    def composed(self) -> ComposedConfig:
        return ComposedConfig(self.config)

    @cached_property
    def rule(self) -> ResizeRule:
        return resize_rule(self.composed.pipelines("test")[0])

    @cached_property
    def network(self) -> ExportedDetector:
        """The detector from pixels to detections, on the CPU."""
        register(self.config)
        init_default_scope("mmdet")
        detector = weights.frozen(self.composed.student, self.state, self.directory / WEIGHTS)
        return ExportedDetector(detector.cpu(), self.rule).eval()

    @property
    def ap(self) -> float | None:
        """AP of ``metrics.json``, 0 to 1; None without that file, or if it is of other weights."""
        path = self.directory / "metrics.json"
        if not path.exists() or outdated_results(self.directory):
            return None
        return read_json(path)["AP"]

    def facts(self) -> dict[str, str]:
        """Return what a user of the exported network has to know, as text."""
        identity = read_json(self.directory / "run.json")
        packages = ("kd-detection", "mmdet", "torch", "torchvision", "onnx")
        start = self.composed.imagenet_source or "none"
        return onnx_facts(
            {
                "classes": self.composed.class_names,
                "input": "images: float32 (B, 3, H, W), red first, 0 to 255, resized by 'resize'; "
                "the network normalizes and pads them",
                "outputs": "boxes (B, D, 4): left, top, right, bottom in pixels of the input; "
                "scores (B, D) in descending order; labels (B, D). Rows without an object have "
                "score 0 and label -1",
                "resize": self.rule.settings,
                "pad_divisor": self.network.divisor,
                "license": LICENSE.format(
                    data=identity["dataset"], license=self._data_license, start=start
                ),
                "run": self.directory.as_posix() if not self.directory.is_absolute() else
                self.directory.name,
                "AP": self.ap,
                "versions": {name: metadata.version(name) for name in packages},
            }
        )  # fmt: skip

    @property
    def _data_license(self) -> str:
        """The license that the data set's entry states; "unknown" without one."""
        name = read_json(self.directory / "run.json")["dataset"]
        try:
            return Library().dataset(name, str(self.directory)).license or "unknown license"
        except UserError:  # the entry was removed
            return "unknown license"


def export(run: TrainedRun, forms: Sequence[Form], folder: Path) -> dict[Form, list[Path]]:
    """Write forms of a run's detector and a README to a folder; return the files of each form.

    UserError for a detector that a form does not support, and for a folder in which forms of
    another run would remain.
    """
    _refuse_forms_of_another_run(run, forms, folder)
    written: dict[Form, list[Path]] = {}
    if "mmdet" in forms:
        names = run.composed.class_names
        written["mmdet"] = write_mmdet(run.config, run.state, names, folder)
    if "onnx" in forms:
        written["onnx"] = [write_onnx(run.network, run.rule, run.facts(), folder)]
    if "torchscript" in forms:
        written["torchscript"] = [write_torchscript(run.network, run.rule, run.facts(), folder)]
    write_text(folder / "README.md", readme(run.composed.class_names, [*written], run.facts()))
    return written


def _refuse_forms_of_another_run(run: TrainedRun, forms: Sequence[Form], folder: Path) -> None:
    readme = folder / "README.md"
    if not readme.exists():
        return
    if run.directory.resolve().name in readme.read_text(encoding="utf-8"):
        return
    for form, name in FILES.items():
        if form not in forms and (folder / name).exists():
            raise UserError(
                f"{folder / name}: is of another run and would remain; choose another --to, or add "
                f"'{form}' to --forms"
            )
