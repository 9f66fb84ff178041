"""What a frozen detector made of images, kept for when they come again.

Feature maps are kept in memory; logits and boxes on disk, where the next run with the same teacher
finds them. The teacher only ever runs on whole batches of the run's size, as it does without a
cache: what it makes of an image then has the same bits whatever else is in the batch, while a batch
of another size may be summed up in another order. Where a batch has to be computed its mirror image
is, too, so that from the second epoch on both forms of an image are known.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from kd.common.errors import UserError
from kd.common.files import sha256
from kd.common.results import RESULTS
from kd.config import repeatable
from kd.config.canonical import canonical_detector
from kd.config.composed import ComposedConfig
from kd.config.run import digest_of
from kd.observers import Batch, observe
from kd.records.inputs import VERSIONS
from kd.training.loop import bare
from kd.training.teacher_store import DiskStore, Maps, MemoryStore, Store, bytes_of

logger = logging.getLogger(__name__)

FOLDER = RESULTS / "teacher_outputs"
MEGABYTE = 1_000_000
ON_DISK = frozenset({"outputs", "class_outputs", "box_outputs"})
"""Properties of an observation that the next run may find; other ones are kept in memory."""
GROUPED = frozenset({"outputs"})
"""Those that hold a list of maps for each kind of output, and not just a list of maps."""


class Shown(NamedTuple):
    """What a training shows its teacher."""

    images: int
    forms: int
    """2 where images are mirrored at random."""
    batch_size: int
    """Of one process."""


class TeacherCache:
    """Answers for a teacher where all images of a batch are known, and asks it where not.

    ``settings``: what its answers depend on that is the same for all images; ``megabytes``: as much
    memory, and as much disk. What would not fit as a whole is not kept at all.
    """

    def __init__(
        self, settings: dict[str, Any], shown: Shown, megabytes: int, folder: Path = FOLDER
    ) -> None:
        self.settings, self.shown, self.folder = settings, shown, folder
        self.limit = megabytes * MEGABYTE
        self.memory = MemoryStore(self.limit)
        self.read = self.found = 0
        """Batches asked for, and how many of them the teacher did not compute."""
        self._way: dict[str, Any] | None = None
        self._kept: dict[str, bool] = {}
        self._images: dict[str, str] = {}

    def observe(self, teacher: Any, batch: Batch) -> Any:
        """Return the observation of a frozen teacher, a plain one of a batch that is not full."""
        plain = observe(teacher, batch, frozen=True)
        way = computed(batch.inputs)
        if self._way is None:
            self._open(way)
        if len(batch.inputs) != self.shown.batch_size or way != self._way:
            return plain
        kind: Any = type(plain)
        return remembering(kind)(self, plain)

    def answer(self, seen: Remembering, name: str) -> Any:
        """Return a property of the teacher's observation with the values that it would have."""
        store = self._store(name)
        keys = self._keys(seen.batch, name)
        known = [store.get(key) for key in keys] if self._kept.get(name, True) else []
        self.read += 1
        whole = [maps for maps in known if maps is not None]
        if len(whole) == len(keys):
            self.found += 1
            return batched(whole, name, seen.batch.inputs.device)
        value = getattr(seen.plain, name)
        if self._keeps(name, by_image(value, name)[0]):
            self._put(keys, known, value, name)
            if self.shown.forms > 1 and seen.mirrored is not None:
                keys = self._keys(seen.batch, name, mirrored=True)
                known = [store.get(key) for key in keys]
                if None in known:
                    self._put(keys, known, getattr(seen.mirrored, name), name)
        return value

    @property
    def summary(self) -> str:
        """What it did, in a line."""
        share = 100 * self.found / self.read if self.read else 0
        return (
            f"teacher outputs: {share:.0f} % of {self.read} batches known; "
            f"{amount(self.memory.used)} of memory, {amount(self.disk.used)} of disk"
        )

    def _put(self, keys: list[str], known: list[Maps | None], value: Any, name: str) -> None:
        """Keep the maps of a batch that were not known."""
        for key, old, new in zip(keys, known, by_image(value, name), strict=True):
            if old is None:
                self._store(name).put(key, new)

    def _store(self, name: str) -> Store:
        return self.disk if name in ON_DISK else self.memory

    def _keeps(self, name: str, maps: Maps) -> bool:
        """Return whether all images' maps would fit; decided, and told, at the first batch."""
        if name not in self._kept:
            store = self._store(name)
            size = bytes_of(maps) * self.shown.images * self.shown.forms
            self._kept[name] = store.reserve(size)
            if not self._kept[name] and is_main_process():
                logger.info(
                    "teacher's %s of %d images would take %s %s, and %s are left of "
                    "--teacher-cache: computed in every step",
                    name,
                    self.shown.images,
                    amount(size),
                    store.place,
                    amount(store.limit - store.reserved),
                )
        return self._kept[name]

    def _open(self, way: dict[str, Any]) -> None:
        """Note how this process computes, and find what was computed so before."""
        self._way = way
        content = {**self.settings, **way, "batch": self.shown.batch_size}
        self.disk = DiskStore(self.limit, self.folder / digest_of(content), content)

    def _keys(self, batch: Batch, name: str, mirrored: bool = False) -> list[str]:
        """Return what identifies maps: the image's content, its form, its padded size, a name."""
        height, width = batch.inputs.shape[-2:]
        keys = []
        for sample in batch.samples:
            flipped = bool(sample.metainfo.get("flip")) != mirrored
            form = "mirrored" if flipped else "plain"
            keys.append(f"{self._content(sample.img_path)}-{form}-{height}x{width}-{name}")
        return keys

    def _content(self, path: str) -> str:
        """Return 16 hex digits of the SHA-256 of an image file, read once."""
        if path not in self._images:
            self._images[path] = sha256(Path(path))[:16]
        return self._images[path]


class Remembering:
    """The observation of a frozen teacher whose modules are asked by way of a cache."""

    def __init__(self, cache: TeacherCache, plain: Any) -> None:
        super().__init__(plain.detector, plain.batch, frozen=True)  # type: ignore[call-arg]
        self.cache, self.plain, self.batch = cache, plain, plain.batch

    @cached_property
    def stages(self) -> list[Tensor]:
        return self.cache.answer(self, "stages")

    @cached_property
    def neck(self) -> list[Tensor]:
        return self.cache.answer(self, "neck")

    @cached_property
    def outputs(self) -> tuple[list[Tensor], ...]:
        return self.cache.answer(self, "outputs")

    @cached_property
    def class_outputs(self) -> list[Tensor]:
        return self.cache.answer(self, "class_outputs")

    @cached_property
    def box_outputs(self) -> list[Tensor]:
        return self.cache.answer(self, "box_outputs")

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each neck level, from the head's maps where these have been read."""
        known = [name for name in ("class_outputs", "box_outputs") if name in vars(self)]
        return [tuple(level.shape[-2:]) for level in getattr(self, (*known, "neck")[0])]

    @cached_property
    def mirrored(self) -> Any:
        """The observation of the mirrored images; None where their sizes differ.

        Such a batch is as large as the largest of it, which another one seldom is.
        """
        sizes = {tuple(sample.img_shape[:2]) for sample in self.batch.samples}
        if len(sizes) > 1:
            return None
        height, width = sizes.pop()
        inputs = self.batch.inputs.clone()
        inputs[..., :height, :width] = inputs[..., :height, :width].flip(-1)
        with self.plain.gradients():  # the precision of the step
            return observe(self.plain.detector, replace(self.batch, inputs=inputs), frozen=True)


@functools.cache
def remembering(kind: Any) -> Any:
    """Return an observation's class, changed to ask a cache."""
    return type(f"Remembering{kind.__name__}", (Remembering, kind), {})


def by_image(value: Any, name: str) -> list[Maps]:
    """Return maps (B, C, H, W) of a batch as those of its images."""
    groups = value if name in GROUPED else [value]
    count = len(groups[0][0])
    return [[[level[image] for level in group] for group in groups] for image in range(count)]


def batched(images: list[Maps], name: str, device: torch.device) -> Any:
    """Return maps of images as new ones (B, C, H, W), as the observation has them."""
    groups = tuple(
        [_stacked(level).to(device) for level in zip(*group, strict=True)]
        for group in zip(*images, strict=True)
    )
    return groups if name in GROUPED else groups[0]


def _stacked(level: tuple[Tensor, ...]) -> Tensor:
    """Return the maps of one level in one tensor, laid out as they are."""
    joined = torch.stack(level)
    return joined if level[0].is_contiguous() else joined.to(memory_format=torch.channels_last)


def computed(inputs: Tensor) -> dict[str, Any]:
    """Return what the last bits of what a network makes of images depend on."""
    kind, cpu = inputs.device.type, torch.backends.cpu
    autocast = torch.is_autocast_enabled(kind)
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if kind == "cuda" else cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "dtype": str(inputs.dtype),
        "autocast": str(torch.get_autocast_dtype(kind)) if autocast else None,
    }


def amount(size: float) -> str:
    """Return a number of bytes with a unit, to two digits."""
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.3g} TB"


class TeacherCaching(Hook):
    """Gives the distiller a cache while it trains; UserError for a run that can have none."""

    def __init__(self, megabytes: int, config: dict[str, Any], directory: Path) -> None:
        self.megabytes, self.config = megabytes, ComposedConfig(config)
        problem = _obstacle(self.config)
        if problem:
            raise UserError(f"{directory / 'config.json'}: {problem}; leave out --teacher-cache")

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        settings = {
            "version": VERSIONS["training"],
            "teacher": canonical_detector(self.config.teacher or {}),
            "weights_sha256": sha256(self.config.teacher_checkpoints["teacher"]),
            "pipelines": self.config.pipelines("train"),
            "preprocessor": self.config.student["data_preprocessor"],
        }
        shown = Shown(len(loader.dataset), repeatable.forms(self.config), loader.batch_size)
        self.cache = TeacherCache(settings, shown, self.megabytes)
        bare(runner.model).teacher_cache = self.cache

    def after_train(self, runner: Runner) -> None:
        bare(runner.model).teacher_cache = None
        if is_main_process():
            logger.info(self.cache.summary)


def _obstacle(config: ComposedConfig) -> str:
    """Return why a run's teacher is asked something new in every step, or nothing."""
    if config.teacher is None:
        return "no detector teaches this run"
    changing = repeatable.random_transforms(config)
    if changing:
        return f"{', '.join(changing)} of its pipeline show other images in every epoch"
    return ""
