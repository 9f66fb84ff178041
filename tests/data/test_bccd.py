"""BCCD, the data set of the tutorial on own data, through mmdet's reader."""

from pathlib import Path

import pytest

from kd.config.library import Library
from kd.config.plan import plan
from tests.support import machine
from tests.support.paths import REPOSITORY


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Return the composed configuration of the BCCD study's teacher, with links to the data."""
    data = machine.bccd()
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bccd").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    return next(iter(plan("bccd", "laptop", Library()).runs.values())).config


@pytest.mark.parametrize(("split", "images"), [("train", 292), ("test", 72)])
def test_both_splits_load_through_mmdet(config: dict, split: str, images: int) -> None:
    from mmdet.registry import DATASETS
    from mmengine.registry import DefaultScope

    import kd.runtime  # noqa: F401

    DefaultScope.get_instance("bccd", scope_name="mmdet")
    dataset = DATASETS.build(config[f"{split}_dataloader"]["dataset"])
    assert len(dataset) == images
    sample = dataset[0]
    assert tuple(sample["inputs"].shape) == (3, 192, 256)
    assert sample["data_samples"].img_id.startswith("BloodImage_")
