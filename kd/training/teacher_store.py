"""Where maps of single images are kept: in memory, or in files that several processes share."""

import json
import logging
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd.common.files import replacing, write_json

logger = logging.getLogger(__name__)

Maps = list[list[Tensor]]
"""What was made of one image: groups of maps (C, H, W), one group for each kind of output."""
DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16)}


def bytes_of(maps: Maps) -> int:
    return sum(level.numel() * level.element_size() for group in maps for level in group)


class Store:
    """Maps by key, up to so many bytes."""

    place: str

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self.reserved = limit, 0, 0

    def reserve(self, size: int) -> bool:
        """Set bytes aside; return whether there are so many."""
        if self.reserved + size > self.limit:
            return False
        self.reserved += size
        return True

    def get(self, key: str) -> Maps | None:
        raise NotImplementedError

    def put(self, key: str, maps: Maps) -> None:
        """Keep maps where there is room left, whatever their owner does to them afterwards."""
        size = bytes_of(maps)
        if self.used + size <= self.limit:
            self._write(key, maps)
            self.used += size

    def _write(self, key: str, maps: Maps) -> None:
        raise NotImplementedError


class Memory(Store):
    """The memory of this process."""

    place = "of memory"

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._maps: dict[str, Maps] = {}

    def get(self, key: str) -> Maps | None:
        return self._maps.get(key)

    def _write(self, key: str, maps: Maps) -> None:
        self._maps[key] = [[level.cpu().clone() for level in group] for group in maps]


class Disk(Store):
    """A file for each key: a line of JSON, then the bytes that it has the checksum of.

    A file that cannot be read is warned of and is as good as absent. After the first one that
    cannot be written, which is warned of, no more are. ``setting``: what all of them depend on,
    for people who look into the folder.
    """

    place = "of disk"

    def __init__(self, limit: int, folder: Path, setting: dict[str, Any]) -> None:
        super().__init__(limit)
        self.folder, self.setting, self._writable = folder, setting, True
        self.used = sum(path.stat().st_size for path in folder.glob("*.maps"))

    def get(self, key: str) -> Maps | None:
        path = self._path(key)
        try:
            return decoded(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("warning: %s: cannot be read (%s); it is made anew", path, error)
            return None

    def _write(self, key: str, maps: Maps) -> None:
        if not self._writable:
            return
        path = self._path(key)
        described = self.folder / "setting.json"
        try:
            if not described.exists():
                write_json(described, self.setting)
            with replacing(path, synced=False) as temporary:  # its checksum tells
                temporary.write_bytes(encoded(maps))
        except OSError as error:
            self._writable = False
            logger.warning(
                "warning: %s: %s; the training goes on and keeps no more of these",
                path,
                error.strerror,
            )

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.maps"


def encoded(maps: Maps) -> bytes:
    """Return maps as bytes that ``decoded`` takes."""
    levels = [_in_order(level.cpu()) for group in maps for level in group]
    body = b"".join(level.view(torch.uint8).numpy().tobytes() for level in levels)
    groups = [[_described(level) for level in group] for group in maps]
    head = json.dumps({"checksum": zlib.crc32(body), "maps": groups})
    return head.encode() + b"\n" + body


def decoded(content: bytes) -> Maps:
    """Return the maps; ValueError, KeyError or TypeError where the content is damaged."""
    line, _, body = content.partition(b"\n")
    head = json.loads(line)
    if zlib.crc32(body) != head["checksum"]:
        raise ValueError("its checksum is another one")
    memory, start, maps = bytearray(body), 0, []
    for group in head["maps"]:
        levels = []
        for name, (channels, height, width), last in group:
            count = channels * height * width
            level = torch.frombuffer(memory, dtype=DTYPES[name], count=count, offset=start)
            start += level.nbytes
            if last:
                levels.append(level.reshape(height, width, channels).permute(2, 0, 1))
            else:
                levels.append(level.reshape(channels, height, width))
        maps.append(levels)
    return maps


def _described(level: Tensor) -> tuple[str, list[int], bool]:
    """Return type and shape of a map, and whether its channels are innermost."""
    return str(level.dtype), list(level.shape), not level.is_contiguous()


def _in_order(level: Tensor) -> Tensor:
    """Return the elements of a map as they lie in memory."""
    return (level if level.is_contiguous() else level.permute(1, 2, 0)).flatten()
