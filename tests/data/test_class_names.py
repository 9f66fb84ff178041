"""Class names that the entry does not list are read once for all runs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from kd.data.entry import Dataset
from kd.data.readers import class_names
from tests.support.tiny import edit, make_project


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the number of reads of each file."""
    counts: Counter[str] = Counter()
    read = Path.read_bytes

    def read_and_count(path: Path) -> bytes:
        counts[path.name] += 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_and_count)
    return counts


def free(dataset: Dataset) -> Dataset:
    return dataset.model_copy(update={"classes": None})


def test_a_plan_reads_the_training_annotations_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: Counter[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    edit("configs/datasets/shapes-tiny.yaml", classes=None)
    reads.clear()
    runs = plan("tiny", "tiny", Library(), StudyOptions(seeds=4)).runs
    again = plan("tiny", "tiny", Library(), StudyOptions(seeds=4)).runs
    assert len(runs) > 10 and runs.keys() == again.keys()
    assert reads["train.json"] == 1 and reads["test.json"] == 0
    classes = {
        json.dumps(run.config["test_dataloader"]["dataset"]["metainfo"]) for run in runs.values()
    }
    assert len(classes) == 1


def test_voc_pages_are_read_once(voc: Dataset, reads: Counter[str]) -> None:
    for _ in range(5):
        assert class_names(free(voc)) == ["cat", "dog"]
    assert reads["a1.xml"] == reads["b1.xml"] == 1


def test_names_follow_a_file_that_changes(coco: Dataset, edit: Any) -> None:
    assert class_names(free(coco)) == ["cat", "dog"]
    edit(lambda content: content["categories"].append({"id": 9, "name": "cow"}))
    assert class_names(free(coco)) == ["cat", "dog", "cow"]


def test_malformed_annotations_do_not_prevent_reading_class_names(coco: Dataset, edit: Any) -> None:
    """A plan reads only the categories; the check reports the annotations."""
    edit(lambda content: content["annotations"][0].pop("bbox"))
    assert class_names(free(coco)) == ["cat", "dog"]
    edit(lambda content: content["categories"][0].pop("name"))
    with pytest.raises(UserError, match=r"categories\[0\]: key 'name' is missing"):
        class_names(free(coco))
