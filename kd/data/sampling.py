"""Data whose order and augmentation are functions of (seed, epoch, sample), not of history."""

import io
import random
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from mmdet.datasets.transforms import Resize
from mmdet.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS
from mmengine.dist import get_dist_info
from torch.utils.data import Dataset, Sampler

_legacy: Any = np.random  # whose stubs lack what holds its state


@TRANSFORMS.register_module()
class FitInto(Resize):
    """Resize image and boxes to fit into ``width`` x ``height`` pixels, keeping the ratio."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(scale=(width, height), keep_ratio=True)


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler[int]):
    """Yields ``epoch * N + sample``, a permutation of all samples in each epoch.

    ``skip`` makes the next epoch start later, which is how a run resumes in the middle of one.
    Under distributed training every process takes each world-size-th sample; the epoch is filled
    up from its beginning so that all have equally many.
    """

    def __init__(self, dataset: Any, seed: int | None = None, shuffle: bool = True) -> None:
        self.rank, self.world = get_dist_info()
        self.dataset, self.seed, self.shuffle = dataset, seed or 0, shuffle
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch, and how many of this process's samples are already done."""
        self.epoch, self.start = epoch, skip

    def order(self) -> list[int]:
        """Return the samples of the epoch in order, for all processes together."""
        count = len(self.dataset)
        if not self.shuffle:
            return list(range(count))
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch))
        order = torch.randperm(count, generator=generator).tolist()
        return (order * self.world)[: len(self) * self.world]

    def __iter__(self) -> Iterator[int]:
        offset = self.epoch * len(self.dataset) if self.shuffle else 0
        for sample in self.order()[self.rank :: self.world][self.start :]:
            yield offset + sample

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.world)


@DATASETS.register_module()
class SeededDataset(Dataset[Any]):
    """Runs a data set's pipeline under random states that depend on (seed, epoch, sample) only."""

    def __init__(self, dataset: dict[str, Any], seed: int) -> None:
        self.dataset = build(dataset)
        self.seed = seed
        self.bits = np.random.MT19937()

    @property
    def metainfo(self) -> dict[str, Any]:
        return self.dataset.metainfo

    @property
    def labels(self) -> list[int]:
        """Class of each sample, of a data set with one object a sample."""
        return self.dataset.labels

    def full_init(self) -> None:
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        epoch, sample = divmod(index, len(self.dataset))
        states = random.getstate(), _legacy.get_bit_generator(), torch.get_rng_state()
        _legacy.set_bit_generator(self.bits)  # to copy a state takes longer than all the rest
        seed_everything(mix(self.seed, epoch, sample))
        try:
            return self.dataset[sample]
        finally:
            random.setstate(states[0])
            _legacy.set_bit_generator(states[1])
            torch.set_rng_state(states[2])


def build(config: dict[str, Any]) -> Any:
    """Build an mmdet data set, without what pycocotools prints on the way."""
    with redirect_stdout(io.StringIO()):
        return DATASETS.build(config)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices in use)."""
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed keeps a stack trace for each kind of device, in case that is used later.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def mix(*values: int) -> int:
    """Return 32 bits that depend on all values."""
    return int(np.random.SeedSequence(values).generate_state(1)[0])
