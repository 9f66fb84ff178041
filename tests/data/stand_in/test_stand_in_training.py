"""A composed configuration reads stand-in data after its ``data_root`` is replaced."""

from pathlib import Path
from typing import Any

import pytest

from kd.config.compose import compose
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.run import Run
from kd.data.entry import Dataset
from kd.data.stand_in.writing import write_stand_in
from tests.support.paths import CONFIGS

LONGEST = 20


class Replaced(Library):
    """Library whose data sets have another root."""

    def __init__(self, root: str) -> None:
        super().__init__(CONFIGS)
        self.other_root = root

    def dataset(self, name: str, where: str) -> Dataset:
        return super().dataset(name, where).model_copy(update={"root": self.other_root})


def composed(library: Library, dataset: str) -> dict[str, Any]:
    run = Run("paper", dataset, "1x", "retinanet", "r18", 0)
    return compose(run, {}, Scale(title="paper"), library, "tests")


def with_root(value: Any, root: str) -> Any:
    """Return a configuration with another ``data_root`` in every data set."""
    if isinstance(value, dict):
        changed = {key: with_root(part, root) for key, part in value.items()}
        return changed | ({"data_root": root} if "data_root" in value else {})
    return [with_root(part, root) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("name", "folder"), [("coco2017", ""), ("voc0712", "VOC2007")])
def test_a_paper_scale_configuration_loads_every_image_once(
    tmp_path: Path, name: str, folder: str, quiet_mmdet: None
) -> None:
    from mmengine.registry import init_default_scope

    from kd.data.sampling import EpochSampler, build_dataset

    init_default_scope("mmdet")
    library = Library(CONFIGS)
    entry = write_stand_in(name, library.dataset(name, "tests"), tmp_path, longest=LONGEST)
    config = composed(Replaced(entry.root), name)
    if name == "coco2017":
        assert config["train_dataloader"] == with_root(
            composed(library, name)["train_dataloader"], entry.root
        )
    data = build_dataset(config["train_dataloader"]["dataset"])
    images = LONGEST if name == "coco2017" else 2 * LONGEST  # two years of VOC
    assert len(data) == images
    sampler = EpochSampler(data, seed=3)
    sampler.set_epoch(1)
    order = list(sampler)
    samples = [data[index] for index in order[:3]]
    assert sorted(index - len(data) for index in order) == list(range(images))
    width, height = entry.image_size
    for sample in samples:
        channels, rows, columns = sample["inputs"].shape
        assert channels == 3
        assert max(rows, columns) <= max(width, height) and min(rows, columns) <= min(width, height)
        boxes = sample["data_samples"].gt_instances.bboxes
        assert (boxes.tensor >= 0).all() and (boxes.tensor[:, 2] <= columns + 1e-3).all()
    test = build_dataset(config["test_dataloader"]["dataset"])
    assert len(test) == LONGEST
    assert Path(test.get_data_info(0)["img_path"]).is_relative_to(tmp_path / folder)
