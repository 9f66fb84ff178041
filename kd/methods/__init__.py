"""Distillation methods, one module each, found by the module's name."""

from functools import cache

from kd.common.modules import class_in, modules_in
from kd.methods.base import Method


@cache
def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return modules_in(__path__)


@cache
def get(name: str) -> type[Method]:
    """Return the method defined in ``kd/methods/<name>.py``."""
    return class_in(f"{__name__}.{name}", Method)
