"""Nested data sets are walked to any depth."""

from typing import Any

from kd.common import nested

STEP = {"type": "FitInto", "width": 64, "height": 64}


def reader(name: str) -> dict[str, Any]:
    return {"type": name, "metainfo": {"classes": ["cat"]}, "pipeline": [STEP, {"type": name}]}


def wrapped() -> dict[str, Any]:
    """Return two readers that are concatenated, repeated, mixed and seeded."""
    concatenated = {"type": "ConcatDataset", "datasets": [reader("one"), reader("two")]}
    repeated = {"type": "RepeatDataset", "times": 2, "dataset": concatenated}
    mixed = {"type": "MultiImageMixDataset", "dataset": repeated, "pipeline": [{"type": "Mosaic"}]}
    return {"type": "SeededDataset", "seed": 0, "dataset": mixed}


def test_every_level_is_walked() -> None:
    kinds = [dataset["type"] for dataset in nested.walk(wrapped())]
    assert kinds == [
        *("SeededDataset", "MultiImageMixDataset", "RepeatDataset", "ConcatDataset", "one", "two"),
    ]
    assert [dataset["type"] for dataset in nested.readers(wrapped())] == ["one", "two"]
    assert nested.class_names(wrapped()) == ["cat"]


def test_changes_apply_to_every_level_of_a_copy() -> None:
    before = wrapped()
    after = nested.changed(before, lambda one: {**one, "type": one["type"].lower()})
    assert [dataset["type"] for dataset in nested.walk(after)][:2] == [
        *("seededdataset", "multiimagemixdataset"),
    ]
    assert before == wrapped()


def test_the_size_of_images_is_that_of_the_step_that_resizes() -> None:
    assert nested.image_size([{"type": "LoadImageFromFile"}, STEP]) == (64, 64)
    assert nested.image_size([{"type": "Resize", "scale": [32, 16]}]) == (32, 16)
    assert nested.image_size([{"type": "RandomFlip"}]) is None


def test_crops_name_their_classes_themselves() -> None:
    crops = {"type": "ObjectCrops", "classes": ["cat", "dog"]}
    assert nested.class_names({"type": "SeededDataset", "dataset": crops}) == ["cat", "dog"]
