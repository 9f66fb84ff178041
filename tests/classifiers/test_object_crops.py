"""Training data of a classifier: objects, their order and their augmentation."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxes, Image

import kd.runtime  # noqa: F401
from kd.classifiers.augment import AUGMENTATIONS
from kd.classifiers.cutting import LEAST_MARGIN
from kd.classifiers.dataset import BalancedSampler, ObjectCrops, cut_out
from kd.common.errors import UserError
from kd.config.run import ClassifierRun
from kd.data.sampling import SeededDataset, seed_everything

torch.set_num_threads(1)

LABELS = [0] * 40 + [1] * 9 + [2]
COUNT = len(LABELS)


class Labels(SimpleNamespace):
    """A data set that has labels alone."""

    def __len__(self) -> int:
        return len(self.labels)


def sampler(seed: int = 3, epoch: int = 0, skip: int = 0, rank: int = 0, world: int = 1) -> Any:
    balanced = BalancedSampler(Labels(labels=LABELS), seed=seed)
    balanced.rank, balanced.world = rank, world
    balanced.set_epoch(epoch, skip)
    return balanced


# Order


def test_every_class_is_drawn_equally_often() -> None:
    labels = [LABELS[index % COUNT] for epoch in range(200) for index in sampler(epoch=epoch)]
    assert len(labels) == 200 * COUNT
    for share in Counter(labels).values():
        assert share / len(labels) == pytest.approx(1 / 3, abs=0.02)


def test_objects_of_a_class_are_drawn_equally_often() -> None:
    counts = Counter(index % COUNT for epoch in range(600) for index in sampler(epoch=epoch))
    expected = 600 * COUNT / 3 / 9
    for index in range(40, 49):
        assert counts[index] == pytest.approx(expected, rel=0.15)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert list(sampler()) == list(sampler())
    assert list(sampler()) != list(sampler(seed=4))
    first, second = ([i % COUNT for i in sampler(epoch=epoch)] for epoch in (0, 1))
    assert first != second


def test_no_two_draws_are_augmented_alike() -> None:
    indices = [index for epoch in range(3) for index in sampler(epoch=epoch)]
    assert len({*indices}) == 3 * COUNT
    assert len({index % COUNT for index in indices[:COUNT]}) < COUNT


def test_an_epoch_is_entered_in_its_middle() -> None:
    assert list(sampler(epoch=2, skip=17)) == list(sampler(epoch=2))[17:]


def test_processes_together_draw_what_one_does() -> None:
    shares = [list(sampler(rank=rank, world=2)) for rank in (0, 1)]
    assert [index for pair in zip(*shares, strict=True) for index in pair] == list(sampler())


# Augmentation


def objects(cut: ClassifierRun, augmentation: str | None, seed: int = 0) -> Any:
    """Return the tiny training crops of a run with the seed."""
    data = dict(cut.config["train_dataloader"]["dataset"]["dataset"])
    return SeededDataset(data | {"augmentation": augmentation, "_scope_": "mmdet"}, seed)


@pytest.mark.parametrize("family", AUGMENTATIONS)
def test_a_crop_is_a_function_of_seed_epoch_and_sample(cut: ClassifierRun, family: str) -> None:
    dataset = objects(cut, family)
    count = len(dataset)
    indices = [epoch * count + sample for epoch in (0, 1, 10**9) for sample in range(6)]
    first = [dataset[index]["inputs"] for index in indices]
    for index, crop in reversed(list(zip(indices, first, strict=True))):
        seed_everything(index % 2**32)
        assert torch.equal(dataset[index]["inputs"], crop)
    changed = [not torch.equal(a, b) for a, b in zip(first[:6], first[6:12], strict=True)]
    assert any(changed)
    other = objects(cut, family, seed=1)
    assert any(not torch.equal(other[i]["inputs"], first[i]) for i in range(6))


def test_without_augmentation_a_crop_is_the_box_resized(cut: ClassifierRun) -> None:
    dataset = objects(cut, None)
    assert dataset[0]["inputs"].shape == (3, 40, 40)
    pack = dataset.dataset.pack
    x1, y1, x2, y2 = pack.boxes[0].round().astype(int)
    box = torch.from_numpy(pack.pixels(0)[y1:y2, x1:x2]).permute(2, 0, 1).float()
    resized = torch.nn.functional.interpolate(box[None], (40, 40), mode="bilinear")[0]
    difference = (dataset[0]["inputs"] - resized)[:, 3:-3, 3:-3].abs()
    assert difference.mean() < 3


def test_the_general_family_flips(cut: ClassifierRun) -> None:
    plain, flipping = objects(cut, None), objects(cut, "general")
    flipped = []
    for index in range(20):
        original, augmented = plain[index]["inputs"], flipping[index]["inputs"]
        mirrored = original.flip(2)
        flipped.append(torch.allclose(augmented, mirrored, atol=1e-2))
        assert flipped[-1] or torch.equal(augmented, original)
    assert {True, False} == {*flipped}


def white_object(width: int, height: int) -> tuple[Image, BoundingBoxes]:
    """Return an image with a white object on black, and its box; margins are a quarter."""
    x, y = width // 4, height // 4
    image = torch.zeros(3, height + 2 * y, width + 2 * x, dtype=torch.uint8)
    image[:, y : y + height, x : x + width] = 255
    box = torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32)
    return Image(image), BoundingBoxes(box, format="XYXY", canvas_size=image.shape[1:])


@pytest.mark.parametrize("family", AUGMENTATIONS)
def test_the_crop_after_augmentation_shows_the_object(family: str) -> None:
    for seed in range(60):
        seed_everything(seed)
        image, box = white_object(80, 60)
        crop = cut_out(*AUGMENTATIONS[family](image, box), size=48)
        assert crop.shape == (3, 48, 48)
        assert crop[:, 10:-10, 10:-10].min() > 90  # white, with less contrast and brightness
        assert image.shape[1:] == (90, 120)


@pytest.mark.parametrize("side", [1, 2, 5])
def test_the_smallest_objects_survive_augmentation(side: int) -> None:
    for seed in range(40):
        seed_everything(seed)
        width = side + LEAST_MARGIN  # in a corner of its image
        image = Image(torch.randint(0, 256, (3, width, width), dtype=torch.uint8))
        corners = torch.tensor([[0, 0, side, side]], dtype=torch.float32)
        box = BoundingBoxes(corners, format="XYXY", canvas_size=(width, width))
        image, box = AUGMENTATIONS["ssd"](image, box)
        assert image.shape == (3, width, width)
        x1, y1, x2, y2 = box[0].tolist()
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= width


def test_ssd_expands_crops_and_distorts() -> None:
    areas, colors, corners = [], [], []
    for seed in range(80):
        seed_everything(seed)
        image, box = white_object(80, 60)
        image, box = AUGMENTATIONS["ssd"](image, box)
        x1, y1, x2, y2 = box[0].tolist()
        areas.append((x2 - x1) * (y2 - y1) / (120 * 90))
        colors.append(Tensor(image)[:, int((y1 + y2) / 2), int((x1 + x2) / 2)].tolist())
        corners.append((x1, y1))
    assert min(areas) < 0.1 < 0.8 < max(areas)  # expanded, and cropped to little but the object
    assert len({tuple(color) for color in colors}) > 20
    assert len({*corners}) > 40


# Bad input


def test_absent_crops_are_one_clear_error(cut: ClassifierRun) -> None:
    settings = {"classes": ["a"], "size": 40, "augmentation": None}
    with pytest.raises(UserError, match=r"results/crops/x-1: no complete crops .* kd crops"):
        ObjectCrops("results/crops/x-1", "train", **settings)
    with pytest.raises(UserError, match=r"crops of the 8 classes .* has 1: a; compose it again"):
        ObjectCrops(str(cut.crops.directory), "train", **settings)
