"""``model.json``: size and compute of the detector that a run trains.

A distilled run has the size of its student. The teacher and the adaptation layers are not counted,
because a user of the student runs neither.
"""

from pathlib import Path
from typing import NamedTuple

from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.config.composed import ComposedConfig, read_config

FILE = "model.json"
MILLION, GIGA, MEGABYTE = 1e6, 1e9, 1e6


class ModelSize(NamedTuple):
    """Size of a detector, and its compute for one test image."""

    parameters: int
    multiply_adds: int
    """Multiply-adds of convolutions and matrix products for one image of ``width`` x ``height``."""
    weight_bytes: int
    """Bytes of parameters and buffers."""
    width: int
    """Width in pixels of the configured test images; smaller images take less compute."""
    height: int


def write_size(run: Path) -> ModelSize:
    """Write and return the size of a run's detector; UserError for a classifier."""
    from mmengine.registry import init_default_scope

    from kd.models.complexity import complexity
    from kd.models.registration import register

    settings = read_config(run)
    config = ComposedConfig(settings)
    if config.kind == "classifier":
        raise UserError(f"{run}: a classifier; sizes are counted for detectors only")
    register(settings)
    init_default_scope("mmdet")
    width, height = config.image_sizes("test")[0]
    size = ModelSize(*complexity(config.student, width, height), width, height)
    write_json(run / FILE, size._asdict())
    return size


def describe(size: ModelSize) -> str:
    """Return a line with the size in the units of tables."""
    return (
        f"{size.parameters / MILLION:.2f} M parameters, "
        f"{size.multiply_adds / GIGA:.3g} GFLOPs for an image of {size.width} x {size.height}, "
        f"{size.weight_bytes / MEGABYTE:.3g} MB of weights"
    )


def read_size(run: Path) -> ModelSize | None:
    """Return the recorded size of a run's detector; None without a record.

    UserError if the record cannot be read.
    """
    path = run / FILE
    if not path.exists():
        return None
    record = read_json(path)
    try:
        return ModelSize(**{name: int(record[name]) for name in ModelSize._fields})
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not the size of a detector; run `kd size {run}`") from None
