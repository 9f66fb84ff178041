"""Order and augmentation of training samples depend on (seed, epoch, sample) only."""

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

import kd.runtime  # noqa: F401
from kd.data.sampling import EpochSampler, seed_everything
from tests.support.tiny import STUDENT, make_project, write_run


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        yield


def training_data(seed: int = 0) -> Any:
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    config = json.loads((write_run(STUDENT) / "config.json").read_text())
    return DATASETS.build({**config["train_dataloader"]["dataset"], "seed": seed})


def pixels(dataset: Any, index: int) -> torch.Tensor:
    return dataset[index]["inputs"]


def flips(dataset: Any, epoch: int) -> list[bool]:
    indices = range(epoch * len(dataset), (epoch + 1) * len(dataset))
    return [dataset[index]["data_samples"].flip for index in indices]


def test_a_sample_does_not_depend_on_earlier_samples() -> None:
    dataset = training_data()
    first = [pixels(dataset, index) for index in range(44)]
    for index in reversed(range(44)):
        seed_everything(index)
        assert torch.equal(pixels(dataset, index), first[index])


def test_a_sample_does_not_change_the_random_states() -> None:
    dataset = training_data()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    dataset[0]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.get_rng_state().tolist() == states[2]


def test_augmentation_changes_with_epoch_and_seed() -> None:
    dataset = training_data()
    assert flips(dataset, 0) != flips(dataset, 1)
    assert flips(dataset, 0) != flips(training_data(seed=1), 0)
    assert {True, False} == {*flips(dataset, 0)}


def batches(epoch: int, workers: int, skip: int = 0) -> list[list[torch.Tensor]]:
    """Return the images of an epoch as a run with seed 0 loads them."""
    dataset = training_data()
    sampler = EpochSampler(dataset, seed=0)
    sampler.set_epoch(epoch, skip)
    loader = DataLoader(dataset, 4, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate)
    return [batch["inputs"] for batch in loader]


def equal(left: list[list[torch.Tensor]], right: list[list[torch.Tensor]]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, b)
        for one, other in zip(left, right, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_two_workers_load_the_same_images_as_one_process() -> None:
    assert equal(batches(epoch=1, workers=0), batches(epoch=1, workers=2))
    assert not equal(batches(epoch=0, workers=0), batches(epoch=1, workers=0))


def test_skipping_drops_only_the_beginning_of_an_epoch() -> None:
    whole_epoch = batches(epoch=1, workers=0)
    assert equal(batches(epoch=1, workers=0, skip=8), whole_epoch[2:])
    assert [len(batch) for batch in whole_epoch] == [4, 4, 4, 4, 4, 2]


def shares(count: int, world: int, epoch: int = 1) -> list[list[int]]:
    """Return the indices that each process loads of ``count`` samples."""
    samplers = [EpochSampler(range(count), seed=5) for _ in range(world)]
    for rank, sampler in enumerate(samplers):
        sampler.rank, sampler.world = rank, world
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


@pytest.mark.parametrize("count", [1, 2, 21, 22])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_an_epoch(count: int, world: int) -> None:
    indices = shares(count, world)
    per_process = -(-count // world)
    assert [len(share) for share in indices] == [per_process] * world
    together = [index for share in indices for index in share]
    assert {index // count for index in together} == {1}
    assert {index % count for index in together} == {*range(count)}
    if per_process * world < 2 * count:  # filled up with few samples, none of them a third time
        assert max(together.count(index) for index in together) <= 2


def test_processes_together_load_the_order_of_one() -> None:
    (alone,) = shares(22, 1)
    indices = shares(22, 2)
    assert [index for pair in zip(*indices, strict=True) for index in pair] == alone


def test_epochs_and_seeds_have_different_orders() -> None:
    order = EpochSampler(range(22), seed=5)
    first = order.order()
    order.set_epoch(1)
    assert sorted(first) == sorted(order.order()) == [*range(22)]
    assert first != order.order()
    assert first != EpochSampler(range(22), seed=6).order()


class Shapes:
    """Images of given sizes, as a data set states them."""

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def image_sizes(self) -> list[tuple[int, int]]:
        return self.sizes

    def get_data_info(self, index: int) -> dict[str, int]:
        width, height = self.sizes[index]
        return {"width": width, "height": height}


def shapes(count: int, tall_share: float) -> Shapes:
    generator = random.Random(3)
    tall = [generator.random() < tall_share for _ in range(count)]
    return Shapes([(480, 640) if one else (640, 480) for one in tall])


@pytest.mark.parametrize("count", [1, 7, 64, 101])
@pytest.mark.parametrize("tall_share", [0.0, 0.3, 1.0])
def test_batches_of_one_aspect_are_those_of_mmdet(count: int, tall_share: float) -> None:
    from mmdet.datasets.samplers import AspectRatioBatchSampler

    data = shapes(count, tall_share)
    expected = AspectRatioBatchSampler(EpochSampler(data, seed=4), batch_size=8)
    order = EpochSampler(data, seed=4, aspect_batch=8).order()
    assert [order[start : start + 8] for start in range(0, count, 8)] == [*expected]


def test_a_square_image_counts_as_wide_and_full_batches_have_one_aspect() -> None:
    data = Shapes([(5, 5), (6, 5), (5, 6), (5, 7)] * 10)
    sampler = EpochSampler(data, seed=1, aspect_batch=4)
    order = sampler.order()
    batches = [order[start : start + 4] for start in range(0, 40, 4)]
    assert sorted(order) == [*range(40)]
    assert all(len({index % 4 > 1 for index in batch}) == 1 for batch in batches)
    sampler.set_epoch(1)
    assert sampler.order() != order


def test_processes_share_batches_of_one_aspect() -> None:
    data = shapes(64, 0.4)
    alone = EpochSampler(data, seed=2, aspect_batch=8).order()
    parts = [EpochSampler(data, seed=2, aspect_batch=8) for _ in range(2)]
    for rank, sampler in enumerate(parts):
        sampler.rank, sampler.world = rank, 2
    assert [index for pair in zip(*map(list, parts), strict=True) for index in pair] == alone
