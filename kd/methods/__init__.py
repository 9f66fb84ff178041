"""Distillation methods, one module each, found by the module's name."""

from functools import cache

from kd.common.modules import class_in, modules_in
from kd.methods import features, predictions
from kd.methods.base import Method

PACKAGES = (features, predictions)


@cache
def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted(name for package in PACKAGES for name in modules_in(package.__path__))


@cache
def get(name: str) -> type[Method]:
    """Return the method defined in the module ``name`` of one of ``PACKAGES``."""
    package = next(package for package in PACKAGES if name in modules_in(package.__path__))
    return class_in(f"{package.__name__}.{name}", Method)
