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
UNUSED_MODULES = (
    "mmrazor.engine.runner.quantization_loops",
    "mmrazor.structures.quantization",
    "mmrazor.models.algorithms.quantization",
    "mmrazor.models.fake_quants",
    "mmrazor.models.observers",
    "mmrazor.models.quantizers",
    "mmrazor.models.task_modules.predictor",
)
"""Modules that ``import mmrazor.models`` imports and distillation does not use: quantization, which
needs private modules of torch before 2.0, and predictors of architecture search, with joblib."""


class Placeholder:
    """Replacement of every class of an unused module."""


class EmptyModule(ModuleType):
    """Replacement of an unused module: any name is a placeholder, and ``*`` imports none."""

    __all__: list[str] = []  # noqa: RUF012
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder


class EmptyModuleImporter(MetaPathFinder, Loader):
    """Importer of empty modules in place of unused ones."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        unused = any(f"{name}.".startswith(f"{module}.") for module in UNUSED_MODULES)
        return ModuleSpec(name, self, is_package=True) if unused else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Execute nothing: the module is empty."""


def fbkd(work: Work) -> None:
    """Train the student with mmrazor's configuration and mmengine's Runner."""
    sys.meta_path.insert(0, EmptyModuleImporter())
    import mmrazor.models  # noqa: F401

    config = get_config(CONFIG)
    config.model.architecture, config.model.teacher = (
        ConfigDict(mmdet_systems.detector(get_config(mmdet_systems.CONFIG), d), _scope_="mmdet")
        for d in (18, 50)
    )
    config.model.teacher_ckpt = None
    mmdet_systems.train(config, work)
