"""Cache of the frozen teacher's outputs for images seen in earlier epochs.

Feature maps are cached in memory. Logits and boxes are cached on disk, where the next run with the
same teacher reads them. The teacher runs on whole batches of the run's size only, as it does
without a cache: its outputs for an image then have the same bits whatever else is in the batch. A
batch of another size may be summed in another order. When a batch is computed, its mirror image is
computed too, so that both forms of every image are cached after the first epoch.
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
from kd.config import pipelines
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
"""Properties of an observation that are cached on disk; the others are cached in memory."""
GROUPED = frozenset({"outputs"})
"""Properties that hold a list of maps for each kind of output, not one list of maps."""


class TeacherInputs(NamedTuple):
    """Number and form of the images that a training passes to its teacher."""

    images: int
    forms: int
    """2 where images are mirrored at random."""
    batch_size: int
    """Images that the teacher computes at once: those of a part of a process's batch."""


class TeacherCache:
    """Cache of a teacher's outputs; the teacher runs if an image of the batch is not cached.

    ``settings``: the settings that the outputs for all images depend on. ``megabytes``: the limit
    of memory, and the limit of disk. A property whose maps for all images exceed the limit is not
    cached at all.
    """

    def __init__(
        self, settings: dict[str, Any], inputs: TeacherInputs, megabytes: int, folder: Path = FOLDER
    ) -> None:
        self.settings, self.inputs, self.folder = settings, inputs, folder
        self.limit = megabytes * MEGABYTE
        self.memory = MemoryStore(self.limit)
        self.lookups = self.hits = 0
        """Batches that were looked up, and those of them that the teacher did not compute."""
        self._platform: dict[str, Any] | None = None
        self._fits: dict[str, bool] = {}
        self._digests: dict[str, str] = {}

    def observe(self, teacher: Any, batch: Batch) -> Any:
        """Return the observation of a frozen teacher; an uncached one if the batch is not full."""
        plain = observe(teacher, batch, frozen=True)
        platform = platform_of(batch.inputs)
        if self._platform is None:
            self._open(platform)
        if len(batch.inputs) != self.inputs.batch_size or platform != self._platform:
            return plain
        kind: Any = type(plain)
        return cached_class(kind)(self, plain)

    def lookup(self, observation: CachedObservation, name: str) -> Any:
        """Return a property of the teacher's observation, from the stores or from the teacher."""
        store = self._store(name)
        keys = self._keys(observation.batch, name)
        stored = [store.get(key) for key in keys] if self._fits.get(name, True) else []
        self.lookups += 1
        images = [maps for maps in stored if maps is not None]
        if len(images) == len(keys):
            self.hits += 1
            return batched(images, name, observation.batch.inputs.device)
        value = getattr(observation.plain, name)
        if self._all_fit(name, by_image(value, name)[0]):
            self._put(keys, stored, value, name)
            if self.inputs.forms > 1 and observation.mirrored is not None:
                keys = self._keys(observation.batch, name, mirrored=True)
                stored = [store.get(key) for key in keys]
                if None in stored:
                    self._put(keys, stored, getattr(observation.mirrored, name), name)
        return value

    @property
    def summary(self) -> str:
        """Hits and sizes, in a line."""
        share = 100 * self.hits / self.lookups if self.lookups else 0
        return (
            f"teacher outputs: {share:.0f} % of {self.lookups} batches were cached; "
            f"{amount(self.memory.used)} of memory, {amount(self.disk.used)} of disk"
        )

    def _put(self, keys: list[str], stored: list[Maps | None], value: Any, name: str) -> None:
        """Store those maps of a batch that are not stored yet."""
        for key, old, new in zip(keys, stored, by_image(value, name), strict=True):
            if old is None:
                self._store(name).put(key, new)

    def _store(self, name: str) -> Store:
        return self.disk if name in ON_DISK else self.memory

    def _all_fit(self, name: str, maps: Maps) -> bool:
        """Return True if the maps of all images fit; decide and log it at the first batch."""
        if name not in self._fits:
            store = self._store(name)
            size = bytes_of(maps) * self.inputs.images * self.inputs.forms
            self._fits[name] = store.reserve(size)
            if not self._fits[name] and is_main_process():
                logger.info(
                    "teacher's %s: %d images need %s %s, but --teacher-cache has %s left; "
                    "computing it in every step (raise --teacher-cache to cache it)",
                    name,
                    self.inputs.images,
                    amount(size),
                    store.place,
                    amount(store.limit - store.reserved),
                )
        return self._fits[name]

    def _open(self, platform: dict[str, Any]) -> None:
        """Open the folder with the outputs that were computed on the same platform."""
        self._platform = platform
        setting = {**self.settings, **platform, "batch": self.inputs.batch_size}
        self.disk = DiskStore(self.limit, self.folder / digest_of(setting), setting)

    def _keys(self, batch: Batch, name: str, mirrored: bool = False) -> list[str]:
        """Return a key for each image: its content, form and padded size, and the property."""
        height, width = batch.inputs.shape[-2:]
        keys = []
        for sample in batch.samples:
            flipped = bool(sample.metainfo.get("flip")) != mirrored
            form = "mirrored" if flipped else "plain"
            keys.append(f"{self._digest(sample.img_path)}-{form}-{height}x{width}-{name}")
        return keys

    def _digest(self, path: str) -> str:
        """Return 16 hex digits of the SHA-256 of an image file, which is read once."""
        if path not in self._digests:
            self._digests[path] = sha256(Path(path))[:16]
        return self._digests[path]


class CachedObservation:
    """Observation of a frozen teacher whose maps come from a cache."""

    def __init__(self, cache: TeacherCache, plain: Any) -> None:
        super().__init__(plain.detector, plain.batch, frozen=True)  # type: ignore[call-arg]
        self.cache, self.plain, self.batch = cache, plain, plain.batch

    @cached_property
    def stages(self) -> list[Tensor]:
        return self.cache.lookup(self, "stages")

    @cached_property
    def neck(self) -> list[Tensor]:
        return self.cache.lookup(self, "neck")

    @cached_property
    def outputs(self) -> tuple[list[Tensor], ...]:
        return self.cache.lookup(self, "outputs")

    @cached_property
    def class_outputs(self) -> list[Tensor]:
        return self.cache.lookup(self, "class_outputs")

    @cached_property
    def box_outputs(self) -> list[Tensor]:
        return self.cache.lookup(self, "box_outputs")

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each neck level, from the head's maps if those have been read already."""
        read = [name for name in ("class_outputs", "box_outputs") if name in vars(self)]
        return [tuple(level.shape[-2:]) for level in getattr(self, (*read, "neck")[0])]

    @cached_property
    def mirrored(self) -> Any:
        """Observation of the mirrored images; None if the images' sizes differ.

        A batch of different sizes is padded to its largest image, so its padded size rarely occurs
        again.
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
def cached_class(kind: Any) -> Any:
    """Return the class of an observation with its maps read from a cache."""
    return type(f"Cached{kind.__name__}", (CachedObservation, kind), {})


def by_image(value: Any, name: str) -> list[Maps]:
    """Return the maps (B, C, H, W) of a batch, separated by image."""
    groups = value if name in GROUPED else [value]
    count = len(groups[0][0])
    return [[[level[image] for level in group] for group in groups] for image in range(count)]


def batched(images: list[Maps], name: str, device: torch.device) -> Any:
    """Return maps of images as new maps (B, C, H, W) in the form of the observation."""
    groups = tuple(
        [_stacked(level).to(device) for level in zip(*group, strict=True)]
        for group in zip(*images, strict=True)
    )
    return groups if name in GROUPED else groups[0]


def _stacked(level: tuple[Tensor, ...]) -> Tensor:
    """Return the maps of one level in one tensor of the same memory format."""
    stacked = torch.stack(level)
    return stacked if level[0].is_contiguous() else stacked.to(memory_format=torch.channels_last)


def platform_of(inputs: Tensor) -> dict[str, Any]:
    """Return the properties of the process on which the last bits of an output depend."""
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
    """Hook that gives the distiller a cache; UserError for a run that cannot use one."""

    def __init__(
        self, megabytes: int, config: dict[str, Any], directory: Path, accumulate: int = 1
    ) -> None:
        self.megabytes, self.config = megabytes, ComposedConfig(config)
        self.accumulate = accumulate
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
        images = loader.batch_size // self.accumulate
        inputs = TeacherInputs(len(loader.dataset), pipelines.forms(self.config), images)
        self.cache = TeacherCache(settings, inputs, self.megabytes)
        bare(runner.model).teacher_cache = self.cache

    def after_train(self, runner: Runner) -> None:
        bare(runner.model).teacher_cache = None
        if is_main_process():
            logger.info(self.cache.summary)


def _obstacle(config: ComposedConfig) -> str:
    """Return the reason why a run's teacher sees new images in every epoch; empty if none."""
    if config.teacher is None:
        return "this run has no detector as a teacher"
    changing = pipelines.random_transforms(config)
    if changing:
        return f"{', '.join(changing)} of its pipeline change the images in every epoch"
    return ""
