"""Records of rehearsals: speed and memory of trainings that made a few steps at full size."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.common.results import RESULTS
from kd.config.canonical import canonical_form
from kd.config.run import AnyRun, seedless

REHEARSALS = RESULTS / "rehearsals"
PROJECT = REHEARSALS / "project"
"""Folder in which rehearsals run: their data, their data set entries and their results."""
RECORD = "rehearsal.json"
UNREHEARSED = {
    "checkpoint",
    "classifier_checkpoint",
    "param_scheduler",
    "max_epochs",
    "stop_epoch",
    "from_epoch",
    "until_epoch",
    "warmup_steps",
    "val_dataloader",
}
"""Keys of a configuration that do not change the computation of a step, or only when it is made."""

SIZES = {"ratio_range", "deepen_factor", "widen_factor", "expand_ratio"}
"""Keys whose real numbers are sizes of images and networks, so steps differ with their values."""


@dataclass(frozen=True)
class Rehearsal:
    """Result of a rehearsal that passed. Times are in seconds, memory and files in MB."""

    run: str
    """Name of the rehearsed run; runs with an equal key share the rehearsal."""
    device: str
    gpus: int
    threads: int
    """CPU threads of each process, without its data loading processes."""
    workers: int
    steps: int
    batch: int
    planned_batch: int
    """Batch of the run's schedule, larger than ``batch`` if the rehearsal cut it."""
    data: str
    """Data set, with ``(stand-in)`` if it is absent."""
    random_weights: tuple[str, ...]
    """Networks with random weights in place of those of a training or of ImageNet."""
    first_step: float
    """Seconds from the start of the process, with data prepared, to the end of the first step."""
    seconds_per_step: float
    """Median over steps that are neither the first of a start nor measure gradients."""
    images_per_second: float
    process_mb: int
    """Peak of the resident memory of a training process."""
    gpu_mb: int | None
    """Peak of the allocated GPU memory of a training process; None on a CPU."""
    checkpoint_mb: float
    seconds: dict[str, float]
    """Seconds by part: data, training, resumption, prediction and evaluation."""
    gradient_ratios: dict[str, float]
    """Norm of each distillation term's gradient at the neck over that of detection, in the first
    step; 0 for a term of other maps, or without objects."""
    losses: dict[str, float]
    """Losses of the last step by name."""
    warnings: tuple[str, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    accumulate: int = 1
    """Parts in which each process computed its batch."""
    listed_images: int | None = None
    """Most images of a list of its stand-in; None if no list was cut."""

    @property
    def is_cut(self) -> bool:
        """True if the batch is smaller than that of the run."""
        return self.batch < self.planned_batch

    @property
    def images_at_once(self) -> float:
        """Images that a process computed at a time."""
        return self.batch / max(self.gpus, 1) / self.accumulate

    def has_speed_of(self, gpus: int, accumulate: int) -> bool:
        """Return True if trainings on GPUs, or on none, in ``accumulate`` parts are as fast.

        A GPU computes few images at a time less efficiently, so a cut batch has another speed.
        """
        is_same_device = bool(self.gpus) == bool(gpus)
        return is_same_device and self.accumulate == accumulate and not (gpus and self.is_cut)

    def has_memory_of(self, gpus: int, images_at_once: float) -> bool:
        """Return True if a process with ``images_at_once`` images needs no more memory."""
        is_same_device = bool(self.gpus) == bool(gpus)
        return is_same_device and not self.listed_images and self.images_at_once >= images_at_once

    def write(self, key: str) -> Path:
        """Write the record of a key and return its path."""
        path = folder_of(key) / RECORD
        write_json(path, asdict(self))
        return path


def folder_of(key: str) -> Path:
    """Return the folder of a rehearsal's plan and record."""
    return REHEARSALS / key


def read_rehearsal(key: str) -> Rehearsal | None:
    """Return the record of a key; None without one that this version can read."""
    try:
        record = read_json(folder_of(key) / RECORD)
    except UserError:
        return None
    names = {one.name for one in fields(Rehearsal)}
    try:
        return Rehearsal(**{name: value for name, value in record.items() if name in names})
    except (AttributeError, TypeError):
        return None


class Rehearsals:
    """Records of runs by their keys; a key is computed only if any rehearsal exists."""

    def __init__(self) -> None:
        self._exist = any(REHEARSALS.glob(f"*/{RECORD}"))
        self._read = cache(read_rehearsal)
        self._of = cache(lambda run: self._read(rehearsal_key(run.config)))

    def of(self, run: AnyRun) -> Rehearsal | None:
        """Return the rehearsal of a run or of one that computes the same step; None without."""
        return self._of(run) if self._exist and run.composed.published_checkpoint is None else None


def rehearsal_key(config: dict[str, Any]) -> str:
    """Return eight hex digits that are equal for trainings whose steps compute the same.

    Such trainings differ in seed, teacher weights, length and real-valued settings, such as the
    weight of a term or the learning rate. ``SIZES`` are no such settings. A setting of 0
    differs from others, because it may leave out a computation.
    """
    computation = _computation(seedless(canonical_form(config)))
    text = json.dumps(computation, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _computation(settings: Any) -> Any:
    """Return settings without ``UNREHEARSED`` keys; real numbers beside ``SIZES`` are 0 or not."""
    if isinstance(settings, dict):
        return {
            key: settings[key] if key in SIZES else _computation(settings[key])
            for key in sorted(settings.keys() - UNREHEARSED)
        }
    if isinstance(settings, list | tuple):
        return [_computation(value) for value in settings]
    if isinstance(settings, float):
        return "number" if settings else 0
    return settings
