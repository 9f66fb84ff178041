"""Losses over groups of images: the mean of what each group gives as a batch of its own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.config.terms import method_of, resolve
from kd.methods.base import Method
from kd.methods.defeat import DeFeat
from kd.methods.fkd import FeatureDistillation
from kd.observers import Batch, Channels
from kd.training.image_groups import grouped_losses
from tests.config.test_applicability import LIBRARY, ON_ONE, PRESETS, classifier
from tests.support.tiny_detectors import save_random_weights

torch.set_num_threads(1)

STRIDES = [4, 8, 16, 32, 64]
SIDE = 320
LARGE, SMALL = [0.0, 0.0, 300.0, 300.0], [0.0, 0.0, 30.0, 30.0]
JOINED, GROUPED = [0.4, 0, 0.4, 0, 0], [0.2, 0, 0.2, 0, 0]
"""4 / 2 / 5 for a level that has an object in the batch; half of it if only one image has one."""
CELLS = [
    *(cell for cell in ON_ONE if cell[0] not in PRESETS),
    ("soft_labels", "fcos"),
    ("soft_labels", "faster_rcnn"),
    ("chen", "faster_rcnn"),
    ("defeat_full", "faster_rcnn"),
    ("gid", "faster_rcnn"),
    ("gid_rewrite", "retinanet"),
    ("rm+pfi", "gfl"),
    ("dicod", "yolov3"),
    ("fgfi", "cascade_rcnn"),
    ("soft_labels_ld", "gfl"),
    ("fitnets_object_ld", "retinanet"),
]


class Maps:
    """Neck maps, of which a part can be taken."""

    def __init__(self, neck: list[Tensor], strides: list[int]) -> None:
        self.neck, self.strides = neck, strides

    def subset(self, images: slice) -> "Maps":
        return Maps([level[images] for level in self.neck], self.strides)


def batch_of(*boxes: list[list[float]]) -> Batch:
    samples = [
        SimpleNamespace(gt_instances=SimpleNamespace(bboxes=torch.tensor(image).reshape(-1, 4)))
        for image in boxes
    ]
    return Batch(torch.zeros(len(boxes), 3, SIDE, SIDE), samples)


def unit_differences(*boxes: list[list[float]], **settings: Any) -> list[float]:
    """Return DeFeat's object term by level where every cell differs by 1."""
    maps = [torch.ones(len(boxes), 2, SIDE // stride, SIDE // stride) for stride in STRIDES]
    student, teacher = Maps(maps, STRIDES), Maps([0 * level for level in maps], STRIDES)
    batch = batch_of(*boxes)
    losses = grouped_losses(DeFeat(**settings), student, teacher, batch, nn.ModuleDict())
    return [level.item() for level in losses["loss_defeat_object"]]


@pytest.mark.parametrize(
    ("images_per_group", "by_level"), [(None, JOINED), (2, JOINED), (1, GROUPED)]
)
def test_a_large_object_in_one_image_and_a_small_one_in_the_other(images_per_group, by_level):
    found = unit_differences([LARGE], [SMALL], images_per_group=images_per_group)
    assert found == pytest.approx(by_level)


def test_the_same_in_two_processes(tmp_path):
    torch.multiprocessing.spawn(_one_process, (tmp_path,), nprocs=2)
    both = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    joined, grouped = (sum(torch.tensor(rank[name]) for rank in both) / 2 for name in (None, 2))
    assert joined.tolist() == pytest.approx(JOINED)
    assert grouped.tolist() == pytest.approx(GROUPED)


def _one_process(rank: int, folder: Path) -> None:
    """Store the terms of one of two processes, of which each has an image."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    box = [LARGE, SMALL][rank]
    found = {size: unit_differences([box], images_per_group=size) for size in (None, 2)}
    torch.save(found, folder / f"{rank}.pth")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_the_mean_counts_groups_not_images():
    """Three images in groups of two: the last group has one image and the weight of the first."""
    found = unit_differences([], [LARGE], [SMALL], images_per_group=2)
    assert found == pytest.approx([0.2, 0, 0.2, 0, 0])
    found = unit_differences([LARGE], [SMALL], [], images_per_group=2)
    assert found == pytest.approx([0.2, 0, 0.2, 0, 0])


def test_batch_normalization_of_non_local_blocks_covers_a_group_alone():
    generator = torch.Generator().manual_seed(0)
    maps = [[torch.randn(4, 6, 8, 8, generator=generator)] for _ in range(2)]
    term = FeatureDistillation(transfer_weight=0, feature_weight=0, nonlocal_weight=1)
    torch.manual_seed(0)
    layers = nn.ModuleDict(term.adapters(Channels([6], [], (8,)), Channels([6], [], (8,))))
    for name in ("student0", "teacher0"):
        nn.init.normal_(layers[name].norm.weight)

    def value(images: slice) -> float:
        student, teacher = (Maps(each, [8]).subset(images) for each in maps)
        batch = batch_of(*([[]] * len(student.neck[0])))
        (level,) = grouped_losses(term, student, teacher, batch, layers)["loss_fkd_nonlocal"]
        return level.item()

    halves = [value(slice(0, 2)), value(slice(2, 4))]
    assert value(slice(0, 4)) == pytest.approx(sum(halves) / 2, rel=1e-5)
    joined = term.model_copy(update={"images_per_group": None})
    student, teacher = (Maps(each, [8]) for each in maps)
    (level,) = grouped_losses(joined, student, teacher, batch_of([], [], [], []), layers)[
        "loss_fkd_nonlocal"
    ]
    assert level.item() != pytest.approx(sum(halves) / 2, rel=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("groups")


@pytest.mark.parametrize(("method", "detector"), CELLS)
def test_groups_are_the_mean_of_each_as_a_batch_of_its_own(
    method: str, detector: str, folder: Path, quiet_mmdet: None, model_config: Any, images: Any
) -> None:

    from kd.models.build import build_model

    teacher, student = model_config(detector, backbone="r18-w0.25"), model_config(detector)
    for config in (teacher, student):
        if detector == "faster_rcnn":  # so many that none is left out at random
            for stage in ("rpn", "rcnn"):
                config["train_cfg"][stage]["sampler"]["num"] = 10_000
    checkpoint = folder / detector / "weights.pth"
    if not checkpoint.exists():
        save_random_weights(teacher, checkpoint.parent)
    terms = resolve(method, {}, detector, LIBRARY, "groups")
    config = {
        "type": "Distiller",
        "student": student,
        "seed": 0,
        "teacher": teacher,
        "checkpoint": str(checkpoint),
        "methods": terms,
        **classifier(terms, folder),
    }
    torch.manual_seed(0)
    model = build_model(config)
    model.init_weights()
    model.student.eval()
    pairs = images((3, 0), seed=0), images((1, 2), seed=1)
    samples = [sample for pair in pairs for sample in pair["data_samples"]]
    inputs = torch.cat([pair["inputs"] for pair in pairs])
    whole = Batch(inputs, samples, model.progress._replace(step=10_000))
    halves = [whole.subset(slice(0, 2)), whole.subset(slice(2, 4))]
    for name, settings in terms.items():
        together = _terms(model, name, settings | {"images_per_group": 2}, whole)
        apart = [_terms(model, name, settings | {"images_per_group": None}, h) for h in halves]
        assert together.keys() == apart[0].keys()
        for key, value in together.items():
            mean = (apart[0][key] + apart[1][key]) / 2
            torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)


def _terms(model: Any, name: str, settings: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
    """Return the terms of a method, as vectors of their levels."""
    from kd.observers import observe

    method: Method = method_of(settings)
    batch = Batch(batch.inputs, batch.samples, batch.progress, *_statistics(model))
    teacher = model.observe_teachers(batch)[method.needs.teacher]
    student = observe(model.student, batch, frozen=False)
    student.losses()
    losses = grouped_losses(method, student, teacher, batch, model.adapters[name])
    return {
        key: torch.stack(value if isinstance(value, list) else [value]).detach()
        for key, value in losses.items()
    }


def _statistics(model: Any) -> tuple[Tensor, Tensor]:
    preprocessor = model.data_preprocessor
    return preprocessor.mean.flatten(), preprocessor.std.flatten()
