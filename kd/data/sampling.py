"""Sampling and augmentation that depend on (seed, epoch, sample) only."""

import io
import random
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mmdet.datasets.transforms import Resize
from mmdet.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS
from mmengine.dist import get_dist_info
from torch import Tensor
from torch.utils.data import Dataset, Sampler

_legacy: Any = np.random  # the stubs lack get_bit_generator


@TRANSFORMS.register_module()
class FitInto(Resize):
    """Resize of image and boxes into ``width`` x ``height`` pixels with the aspect ratio kept."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(scale=(width, height), keep_ratio=True)


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler[int]):
    """Sampler that yields ``epoch * N + sample`` in a permutation of all samples per epoch.

    ``skip`` lets the next epoch start later, so that a run resumes in the middle of an epoch. In
    distributed training, every process loads each world-size-th sample. The epoch is filled up with
    its first samples so that all processes load equally many.

    ``aspect_batch``: images of a batch, of all processes together, which are then all wide or all
    tall, except in the last batches of an epoch. Batches of both need padding to a square. mmdet's
    AspectRatioBatchSampler does so with the batch of each process.
    """

    def __init__(
        self,
        dataset: Any,
        seed: int | None = None,
        shuffle: bool = True,
        aspect_batch: int | None = None,
    ) -> None:
        self.rank, self.world = get_dist_info()
        self.dataset, self.seed, self.shuffle = dataset, seed or 0, shuffle
        self.aspect_batch = aspect_batch
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Set the epoch, and the number of this process's samples to skip."""
        self.epoch, self.start = epoch, skip

    def order(self) -> list[int]:
        """Return the samples of the epoch in order, for all processes together."""
        count = len(self.dataset)
        if not self.shuffle:
            return list(range(count))
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch))
        permutation = torch.randperm(count, generator=generator)
        if self.aspect_batch:
            permutation = grouped(permutation, self._are_tall, self.aspect_batch)
        return (permutation.tolist() * self.world)[: len(self) * self.world]

    @cached_property
    def _are_tall(self) -> Tensor:
        """Booleans (N,) that are true for images that are higher than wide."""
        return torch.tensor([height > width for width, height in self.dataset.image_sizes()])

    def __iter__(self) -> Iterator[int]:
        offset = self.epoch * len(self.dataset) if self.shuffle else 0
        for sample in self.order()[self.rank :: self.world][self.start :]:
            yield offset + sample

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.world)


def grouped(order: Tensor, are_tall: Tensor, batch_size: int) -> Tensor:
    """Return an order (N,) of samples with batches of tall or of wide images only.

    A batch is placed where its last image was. The images that fill no batch come last, tall ones
    first, as in mmdet's AspectRatioBatchSampler.
    """
    tall = are_tall[order]
    batches, ends, rest = [], [], []
    for positions in (tall.nonzero().flatten(), (~tall).nonzero().flatten()):
        full = len(positions) // batch_size * batch_size
        blocks = positions[:full].view(-1, batch_size)
        batches.append(blocks)
        ends.append(blocks[:, -1])
        rest.append(positions[full:])
    by_end = torch.cat(batches)[torch.cat(ends).argsort()]
    return order[torch.cat([by_end.flatten(), *rest])]


@DATASETS.register_module()
class SeededDataset(Dataset[Any]):
    """Data set whose pipeline runs with random states that depend on (seed, epoch, sample)."""

    def __init__(self, dataset: dict[str, Any], seed: int) -> None:
        self.dataset = build_dataset(dataset)
        self.seed = seed
        self.bits = np.random.MT19937()

    @property
    def metainfo(self) -> dict[str, Any]:
        return self.dataset.metainfo

    @property
    def labels(self) -> list[int]:
        """Return the class of each sample, for a data set with one object per sample."""
        return self.dataset.labels

    def image_sizes(self) -> Iterator[tuple[int, int]]:
        """Yield width and height in pixels of each image, as its annotations state them."""
        for index in range(len(self.dataset)):
            info = self.dataset.get_data_info(index)
            yield info["width"], info["height"]

    def full_init(self) -> None:
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        epoch, sample = divmod(index, len(self.dataset))
        states = random.getstate(), _legacy.get_bit_generator(), torch.get_rng_state()
        _legacy.set_bit_generator(self.bits)  # faster than copying its state
        seed_everything(mix(self.seed, epoch, sample))
        try:
            return self._load(epoch, sample)
        finally:
            random.setstate(states[0])
            _legacy.set_bit_generator(states[1])
            torch.set_rng_state(states[2])

    def _load(self, epoch: int, sample: int) -> Any:
        """Return a sample of an epoch; the random states are seeded."""
        return self.dataset[sample]


def build_dataset(config: dict[str, Any]) -> Any:
    """Build an mmdet data set without the messages of pycocotools."""
    with redirect_stdout(io.StringIO()):
        return DATASETS.build(config)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices in use)."""
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed would save a stack trace for each type of device, which is slow.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def mix(*values: int) -> int:
    """Return 32 bits that depend on all values."""
    return int(np.random.SeedSequence(values).generate_state(1)[0])
