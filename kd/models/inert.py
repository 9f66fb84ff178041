"""Python objects in published checkpoints, replaced by inert ones while a file is read.

Trainings of mmengine save their message hub, whose histories are Python objects. ``weights_only``
refuses such a file as a whole. Here ``Inert`` replaces each class or function that a file names,
other than those that torch allows. Nothing of the file runs.
"""

import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

LEGACY_PICKLES = 4
"""Pickles at the beginning of a file that torch before 1.6 wrote: magic number, version of the
format, facts on the system, and the content. The bytes of the tensors follow."""


class Inert:
    """Object in place of any that a file contains; it ignores all arguments and any state."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


@contextmanager
def inert_objects(path: Path) -> Iterator[None]:
    """Let ``torch.load`` with ``weights_only`` read a file, with ``Inert`` for unknown objects.

    torch refuses modules such as ``os`` even so.
    """
    with torch.serialization.safe_globals([(Inert, name) for name in _names(path)]):
        yield


def _names(path: Path) -> list[str]:
    """Return the names of the classes and functions in a file that torch does not allow."""
    if not path.is_file():
        return []
    if zipfile.is_zipfile(path):
        try:
            return torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except (RuntimeError, ValueError, UnpicklingError):  # reading it raises the error
            return []
    names = set()
    with open(path, "rb") as stream:
        try:
            for _ in range(LEGACY_PICKLES):
                for opcode, argument, _ in pickletools.genops(stream):
                    if opcode.name == "GLOBAL":
                        names.add(_current(*str(argument).split(" ", 1)))
        except ValueError:  # not a pickle, or a truncated one
            pass
    return sorted(names)


def _current(module: str, name: str) -> str:
    """Return the name that a class or function of Python 2 has today."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"
