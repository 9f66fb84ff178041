"""Settings of a class of mmdet, completed by the defaults of its constructor."""

import inspect
from functools import cache
from typing import Any

import mmdet.datasets
import mmdet.models  # noqa: F401, registers the classes
from mmdet import registry

from kd.models.fidelity.mmdet_files import plain

Settings = dict[str, Any]
REGISTRIES = (
    registry.MODELS,
    registry.TASK_UTILS,
    registry.TRANSFORMS,
    registry.OPTIMIZERS,
    registry.PARAM_SCHEDULERS,
)
NORMS = {"requires_grad": True, "eps": 1e-5}
"""Defaults of mmcv for normalization layers, which no constructor states."""


def with_defaults(settings: Settings) -> Settings:
    """Return settings with every default of the class that ``type`` names."""
    kind = settings["type"]
    complete = {**_defaults(kind), **settings}
    if "stem_channels" in complete and complete["stem_channels"] is None:
        complete["stem_channels"] = complete["base_channels"]  # ResNet
    return complete


@cache
def _defaults(kind: str) -> Settings:
    """Return the defaults of a class and of the base classes that its other arguments reach."""
    cls = next(filter(None, (one.get(kind) for one in REGISTRIES)), None)
    if not inspect.isclass(cls):
        return {}
    defaults: Settings = dict(NORMS) if _is_norm(cls) else {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        for parameter in parameters:
            if parameter.default is not inspect.Parameter.empty:
                defaults.setdefault(parameter.name, plain(parameter.default))
        if all(parameter.kind != inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return defaults


def _is_norm(cls: type) -> bool:
    return any(base.__name__ in ("_NormBase", "GroupNorm") for base in cls.__mro__)
