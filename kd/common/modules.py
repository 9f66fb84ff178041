"""Modules found by name, and modules imported at their first use: plans do not wait for torch."""

import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

Kind = TypeVar("Kind")


class LazyModule(ModuleType):
    """Stands for a module and imports it when one of its names is first read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def modules_in(folders: Iterable[str]) -> list[str]:
    """Return the names of a package's modules, sorted, without its ``base`` and its packages."""
    modules = (module for module in pkgutil.iter_modules(folders) if not module.ispkg)
    return sorted(module.name for module in modules if module.name != "base")


def packages_in(folders: Iterable[str], module: str) -> list[str]:
    """Return the names of a package's packages that have ``module``, sorted."""
    return sorted(
        path.parent.name for folder in folders for path in Path(folder).glob(f"*/{module}.py")
    )


def class_in(module: str, kind: type[Kind]) -> type[Kind]:
    """Return the one subclass of ``kind`` that a module defines."""
    found = importlib.import_module(module)
    (defined,) = (
        value
        for value in vars(found).values()
        if isinstance(value, type) and issubclass(value, kind) and value.__module__ == module
    )
    return defined
