"""Distillation methods, one file each; ``get`` finds them by the file's name."""

import importlib
import pkgutil
from functools import cache

from kd.methods.base import Method


@cache
def names() -> list[str]:
    """Return the names of all methods, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "base")


@cache
def get(name: str) -> type[Method]:
    """Return the method defined in ``kd/methods/<name>.py``."""
    module = importlib.import_module(f"{__name__}.{name}")
    (method,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    )
    return method
