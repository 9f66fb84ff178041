"""mmrazor's FBKD, from its own configuration, for R50 -> R18."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from mmengine.config import ConfigDict
from mmengine.hub import get_config

from benchmarks.peers import mmdet_systems
from benchmarks.peers.work import Work

CONFIG = "mmrazor::distill/mmdet/fbkd/fbkd_fpn_faster-rcnn_r101_faster-rcnn_r50_1x_coco.py"
LEFT_OUT = (
    "mmrazor.engine.runner.quantization_loops",
    "mmrazor.structures.quantization",
    "mmrazor.models.algorithms.quantization",
    "mmrazor.models.fake_quants",
    "mmrazor.models.observers",
    "mmrazor.models.quantizers",
    "mmrazor.models.task_modules.predictor",
)
"""What ``import mmrazor.models`` imports and distillation does not use: quantisation, which needs
private modules of torch before 2.0, and predictors of architecture search, which need joblib."""


class Nothing:
    """Stands for a class of a module that is left out."""


class Empty(ModuleType):
    """A module that is left out: it has nothing for ``*``, and any name that is asked for."""

    __all__: list[str] = []  # noqa: RUF012
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing


class LeaveOut(MetaPathFinder, Loader):
    """Imports empty modules in place of those that are left out."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        out = any(f"{name}.".startswith(f"{each}.") for each in LEFT_OUT)
        return ModuleSpec(name, self, is_package=True) if out else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


def fbkd(work: Work) -> None:
    """Train the student as mmrazor's configuration says, by mmengine's Runner."""
    sys.meta_path.insert(0, LeaveOut())
    import mmrazor.models  # noqa: F401

    config = get_config(CONFIG)
    config.model.architecture, config.model.teacher = (
        ConfigDict(mmdet_systems.detector(get_config(mmdet_systems.CONFIG), d), _scope_="mmdet")
        for d in (18, 50)
    )
    config.model.teacher_ckpt = None
    mmdet_systems.train(config, work)
