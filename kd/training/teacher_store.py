"""Stores of teacher outputs by image: in memory, or in files that several processes share."""

import logging
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from kd.common.files import replacing, write_json

logger = logging.getLogger(__name__)

Maps = list[list[Tensor]]
"""Outputs for one image: groups of maps (C, H, W) by level, one group for each kind of output."""
SUFFIX, CHECKSUM = ".safetensors", "crc32"


def bytes_of(maps: Maps) -> int:
    """Return the size of maps in bytes."""
    return sum(level.nbytes for group in maps for level in group)


class Store:
    """Maps by key, up to a limit in bytes."""

    place: str

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self.reserved = limit, 0, 0

    def reserve(self, size: int) -> bool:
        """Reserve bytes; return False if fewer are left."""
        if self.reserved + size > self.limit:
            return False
        self.reserved += size
        return True

    def get(self, key: str) -> Maps | None:
        """Return the maps of a key; None if they are not stored."""
        raise NotImplementedError

    def put(self, key: str, maps: Maps) -> None:
        """Store a copy of maps if there is room left."""
        size = bytes_of(maps)
        if self.used + size <= self.limit:
            self._write(key, maps)
            self.used += size

    def _write(self, key: str, maps: Maps) -> None:
        raise NotImplementedError


class MemoryStore(Store):
    """Maps in the memory of this process."""

    place = "of memory"

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._maps: dict[str, Maps] = {}

    def get(self, key: str) -> Maps | None:
        return self._maps.get(key)

    def _write(self, key: str, maps: Maps) -> None:
        self._maps[key] = [[level.cpu().clone() for level in group] for group in maps]


class DiskStore(Store):
    """Maps on disk, a safetensors file with a checksum for each key.

    A file that cannot be read counts as absent, with a warning. After the first file that cannot be
    written, which gives a warning, the store writes no more. ``setting``: the settings that all
    maps depend on, stored beside them for people who look into the folder.
    """

    place = "of disk"

    def __init__(self, limit: int, folder: Path, setting: dict[str, Any]) -> None:
        super().__init__(limit)
        self.folder, self.setting, self._writable = folder, setting, True
        self.used = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}"))

    def get(self, key: str) -> Maps | None:
        path = self._path(key)
        try:
            return read_maps(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, SafetensorError) as error:
            logger.warning("warning: %s: cannot be read (%s); computing it again", path, error)
            return None

    def _write(self, key: str, maps: Maps) -> None:
        if not self._writable:
            return
        path = self._path(key)
        described = self.folder / "setting.json"
        try:
            if not described.exists():
                write_json(described, self.setting)
            # Not synced: the checksum finds a file that a loss of power left incomplete.
            with replacing(path, synced=False) as temporary:
                write_maps(temporary, maps)
        except OSError as error:
            self._writable = False
            logger.warning(
                "warning: %s: %s; training continues without caching more of them",
                path,
                error.strerror,
            )

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"


def write_maps(path: Path, maps: Maps) -> None:
    """Write maps to a safetensors file.

    Tensors are named ``<group>.<level>.<order of axes>``. A map whose channels lie innermost in
    memory is written in the order ``hwc``, because safetensors has no strides. It has no checksum
    either, so the file has one as a tensor.
    """
    tensors = {}
    for number, group in enumerate(maps):
        for index, level in enumerate(group):
            in_order = level.is_contiguous()
            name = f"{number}.{index}.{'chw' if in_order else 'hwc'}"
            tensors[name] = (level if in_order else level.permute(1, 2, 0)).cpu().contiguous()
    save_file({**tensors, CHECKSUM: torch.tensor(checksum_of(tensors))}, path)


def read_maps(path: Path) -> Maps:
    """Return the maps of a file; SafetensorError, OSError or ValueError if it is damaged."""
    tensors = load(path.read_bytes())
    checksum = tensors.pop(CHECKSUM, None)
    if checksum is None or int(checksum) != checksum_of(tensors):
        raise ValueError("its checksum differs")
    groups: dict[str, list[Tensor]] = defaultdict(list)
    for name in sorted(tensors, key=_place):
        group, _, order = name.split(".")
        level = tensors[name]
        groups[group].append(level.permute(2, 0, 1) if order == "hwc" else level)
    return list(groups.values())


def checksum_of(tensors: dict[str, Tensor]) -> int:
    """Return the CRC-32 of contiguous tensors: of their names, types, shapes and bytes."""
    checksum = 0
    for name, tensor in sorted(tensors.items()):
        description = f"{name} {tensor.dtype} {tuple(tensor.shape)}"
        checksum = zlib.crc32(description.encode(), checksum)
        checksum = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, checksum)
    return checksum


def _place(name: str) -> list[int]:
    """Return group and level of a tensor's name."""
    return [int(number) for number in name.split(".")[:2]]
