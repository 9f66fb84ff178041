"""The mmdet form: a configuration and weights for ``mmdet.apis``, without this project."""

from pathlib import Path
from pprint import pformat
from typing import Any

from torch import Tensor

from kd.common.files import write_text
from kd.config.canonical import canonical_detector
from kd.config.composed import mmdet_config
from kd.export import standalone
from kd.models import weights

CONFIG = "mmdet_config.py"
WEIGHTS = "mmdet_weights.pth"
RENAMED = {
    "VGG16": "ExportedVGG16",
    "CompleteSSDHead": "ExportedSSDHead",
    "ScalableDarknet": "ExportedDarknet",
}
"""Classes that mmdet lacks, and their names in the file beside the configuration."""
_IMPORTS = f"""import sys

sys.path.insert(0, "{{{{ fileDirname }}}}")
custom_imports = {{"imports": ["{standalone.CLASSES}"]}}
"""


def write_mmdet(
    config: dict[str, Any], state: dict[str, Tensor], classes: list[str], folder: Path
) -> list[Path]:
    """Write the configuration, the weights, and the modules that mmdet or mmcv-lite lacks.

    Return the first two files. The weights have the detector's tensors and the class names alone.
    """
    settings = mmdet_config(config)
    custom = settings.pop("custom_imports", None)
    settings["model"] = _with_exported_classes(settings["model"])
    lines = [f"{key} = {pformat(value, sort_dicts=False)}\n" for key, value in settings.items()]
    write_text(folder / CONFIG, "".join([*([_IMPORTS] if custom else []), *lines]))
    if custom:
        write_text(folder / f"{standalone.CLASSES}.py", standalone.classes_source(RENAMED))
    write_text(folder / f"{standalone.OPERATORS}.py", standalone.operators_source())
    meta = {"dataset_meta": {"classes": tuple(classes)}}
    weights.save(folder / WEIGHTS, {"state_dict": dict(state), "meta": meta})
    return [folder / CONFIG, folder / WEIGHTS]


def _with_exported_classes(model: dict[str, Any]) -> dict[str, Any]:
    """Return a detector's settings with mmdet's names, or those of the file beside them."""
    exported = canonical_detector(model)
    for key in ("backbone", "bbox_head"):
        if model.get(key, {}).get("type") in RENAMED:
            exported[key] = {**model[key], "type": RENAMED[model[key]["type"]]}
    return exported
