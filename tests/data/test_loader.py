"""The fast training loader yields the same batches as mmdet's and mmengine's code."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import kd.runtime  # noqa: F401
from kd.data import loader as loader_module
from kd.data.loader import PackPixels, fast_loader
from tests.support.tiny import STUDENT, make_project, write_run


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project."""
    torch.set_num_threads(1)
    init_default_scope("mmdet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        yield


@pytest.fixture
def loader() -> dict[str, Any]:
    """Return the settings of a composed training loader."""
    return json.loads((write_run(STUDENT) / "config.json").read_text())["train_dataloader"]


def batches(settings: dict[str, Any], epochs: int = 2) -> list[Any]:
    persistent = {"persistent_workers": settings["num_workers"] > 0}
    loader = Runner.build_dataloader({**settings, **persistent})
    loaded_batches = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        loaded_batches += list(loader)
    return loaded_batches


def assert_same(fast: list[Any], composed: list[Any]) -> None:
    assert len(fast) == len(composed)
    for ours, theirs in zip(fast, composed, strict=True):
        assert ours.keys() == theirs.keys()
        for image, other in zip(ours["inputs"], theirs["inputs"], strict=True):
            assert torch.equal(image, other)
        for sample, other in zip(ours["data_samples"], theirs["data_samples"], strict=True):
            assert sample.metainfo == other.metainfo
            for kind in ("gt_instances", "ignored_instances"):
                one, two = getattr(sample, kind), getattr(other, kind)
                assert type(one.bboxes) is type(two.bboxes)
                assert torch.equal(one.bboxes.tensor, two.bboxes.tensor)
                assert torch.equal(one.labels, two.labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_equal_those_of_the_composed_loader(loader, workers: int) -> None:
    """Two epochs have more batches than a worker's memory; images are flipped and not."""
    composed = batches({**loader, "num_workers": 0})
    fast = batches(fast_loader(loader, workers))
    assert {sample.flip for batch in fast for sample in batch["data_samples"]} == {True, False}
    assert_same(fast, composed)


def test_a_batch_that_is_larger_than_the_memory_is_sent_by_torch(loader, monkeypatch) -> None:
    monkeypatch.setattr(loader_module, "_pixels", lambda pipeline: 100)
    assert_same(batches(fast_loader(loader, 1)), batches({**loader, "num_workers": 0}))


def test_a_composed_configuration_does_not_change(loader) -> None:
    before = json.dumps(loader)
    fast_loader(loader, 2)
    assert json.dumps(loader) == before


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 1), (6, 4), (33, 65)])
def test_packed_images_have_the_transposed_pixels(size: tuple[int, int], flipped: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = np.flip(image, 1) if flipped else image
    results = {"img": image, "img_shape": size, "img_id": 0, "img_path": "", "ori_shape": size}
    packed = PackPixels(meta_keys=("img_id",))(results)["inputs"]
    assert np.array_equal(packed.numpy(), image.transpose(2, 0, 1))


def test_a_network_gets_the_batch_of_mmdet(loader) -> None:
    """Batches have equal bits and strides, on which the last bits of a convolution depend."""
    config = json.loads((write_run(STUDENT) / "config.json").read_text())["model"]
    preprocessor = MODELS.build(config["data_preprocessor"])
    both = [
        preprocessor(batches({**loader, **settings}, epochs=1)[0], True)["inputs"]
        for settings in (fast_loader(loader, 0), {"num_workers": 0})
    ]
    assert torch.equal(*both)
    assert both[0].stride() == both[1].stride()
