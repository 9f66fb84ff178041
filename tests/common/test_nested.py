"""Data sets within data sets are walked to any depth."""

from pathlib import Path
from typing import Any

import pytest

from kd.common import nested
from kd.common.errors import UserError
from kd.config import repeatable

STEP = {"type": "FitInto", "width": 64, "height": 64}


def reader(name: str) -> dict[str, Any]:
    return {"type": name, "metainfo": {"classes": ["cat"]}, "pipeline": [STEP, {"type": name}]}


def wrapped() -> dict[str, Any]:
    """Two readers, joined, repeated, mixed and seeded."""
    joined = {"type": "ConcatDataset", "datasets": [reader("one"), reader("two")]}
    repeated = {"type": "RepeatDataset", "times": 2, "dataset": joined}
    mixed = {"type": "MultiImageMixDataset", "dataset": repeated, "pipeline": [{"type": "Mosaic"}]}
    return {"type": "SeededDataset", "seed": 0, "dataset": mixed}


def test_every_level_is_walked() -> None:
    kinds = [each["type"] for each in nested.walk(wrapped())]
    assert kinds == [
        *("SeededDataset", "MultiImageMixDataset", "RepeatDataset", "ConcatDataset", "one", "two"),
    ]
    assert [each["type"] for each in nested.readers(wrapped())] == ["one", "two"]
    assert nested.class_names(wrapped()) == ["cat"]


def test_changes_reach_every_level_and_leave_the_original() -> None:
    before = wrapped()
    after = nested.changed(before, lambda one: {**one, "type": one["type"].lower()})
    assert [each["type"] for each in nested.walk(after)][:2] == [
        *("seededdataset", "multiimagemixdataset"),
    ]
    assert before == wrapped()


def test_transforms_of_an_outer_data_set_are_known() -> None:
    config = {"train_dataloader": {"dataset": wrapped()}}
    assert repeatable.random_transforms(config) == ["Mosaic", "one", "two"]


def test_narrow_images_in_half_precision_are_refused_at_any_depth(tmp_path: Path) -> None:
    """VOC 2007 and 2012 are joined: their pipelines lie two levels down."""
    import torch

    from kd.training.train import _check_precision

    if torch.cuda.is_available():
        pytest.skip("a GPU computes them well")
    config = {
        "optim_wrapper": {"precision": "bfloat16"},
        "train_dataloader": {"dataset": wrapped()},
    }
    with pytest.raises(UserError, match="images of 64 x 64 pixels in bfloat16 need a GPU"):
        _check_precision(config, tmp_path)
