"""Modules by name, and modules that are imported at their first use, such as torch."""

import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

Kind = TypeVar("Kind")


class LazyModule(ModuleType):
    """Placeholder of a module that imports it when one of its names is first read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def modules_in(folders: Iterable[str]) -> list[str]:
    """Return the sorted names of a package's modules except ``base`` and subpackages."""
    modules = (module for module in pkgutil.iter_modules(folders) if not module.ispkg)
    return sorted(module.name for module in modules if module.name != "base")


def packages_in(folders: Iterable[str], module: str) -> list[str]:
    """Return the sorted names of a package's subpackages that have ``module``."""
    return sorted(
        path.parent.name for folder in folders for path in Path(folder).glob(f"*/{module}.py")
    )


def class_in(module: str, kind: type[Kind]) -> type[Kind]:
    """Return the one subclass of ``kind`` that a module defines."""
    attributes = vars(importlib.import_module(module))
    (defined_class,) = (
        value
        for value in attributes.values()
        if isinstance(value, type) and issubclass(value, kind) and value.__module__ == module
    )
    return defined_class
