"""Losses over groups of images: the mean of the losses of each group as a separate batch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.config.terms import method_of, resolve
from kd.methods.base import Method
from kd.methods.features.defeat import DeFeat
from kd.methods.features.fkd import FeatureDistillation
from kd.observers import Batch, Channels
from kd.training.image_groups import grouped_losses
from tests.config.test_applicability import LIBRARY, ON_ONE, PRESETS, classifier
from tests.support.tiny_detectors import save_random_weights

torch.set_num_threads(1)

STRIDES = [4, 8, 16, 32, 64]
SIDE = 320
LARGE, SMALL = [0.0, 0.0, 300.0, 300.0], [0.0, 0.0, 30.0, 30.0]
WHOLE_BATCH, GROUPS_OF_ONE = [0.4, 0, 0.4, 0, 0], [0.2, 0, 0.2, 0, 0]
"""Losses by level: 4 / 2 / 5 if the batch has an object there; half if one of two groups has it."""
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
    """Observation that has neck maps only."""

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


def unit_difference_losses(*boxes: list[list[float]], **settings: Any) -> list[float]:
    """Return DeFeat's object term by level, for maps that differ by 1 in every cell."""
    maps = [torch.ones(len(boxes), 2, SIDE // stride, SIDE // stride) for stride in STRIDES]
    student, teacher = Maps(maps, STRIDES), Maps([0 * level for level in maps], STRIDES)
    batch = batch_of(*boxes)
    losses = grouped_losses(DeFeat(**settings), student, teacher, batch, nn.ModuleDict())
    return [level.item() for level in losses["loss_defeat_object"]]


@pytest.mark.parametrize(
    ("images_per_group", "by_level"), [(None, WHOLE_BATCH), (2, WHOLE_BATCH), (1, GROUPS_OF_ONE)]
)
def test_a_large_object_in_one_image_and_a_small_one_in_the_other(images_per_group, by_level):
    losses = unit_difference_losses([LARGE], [SMALL], images_per_group=images_per_group)
    assert losses == pytest.approx(by_level)


def test_groups_of_one_image_in_each_of_two_processes(tmp_path):
    torch.multiprocessing.spawn(_save_losses, (tmp_path,), nprocs=2)
    losses_by_rank = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    whole_batch, groups_of_one = (
        sum(torch.tensor(losses[size]) for losses in losses_by_rank) / 2 for size in (None, 2)
    )
    assert whole_batch.tolist() == pytest.approx(WHOLE_BATCH)
    assert groups_of_one.tolist() == pytest.approx(GROUPS_OF_ONE)


def _save_losses(rank: int, folder: Path) -> None:
    """Save the losses of one of two processes; its batch has a single image."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    box = [LARGE, SMALL][rank]
    losses = {size: unit_difference_losses([box], images_per_group=size) for size in (None, 2)}
    torch.save(losses, folder / f"{rank}.pth")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_all_groups_have_equal_weight_in_the_mean():
    """Three images in groups of two: the last group has one image, but the weight of the first."""
    losses = unit_difference_losses([], [LARGE], [SMALL], images_per_group=2)
    assert losses == pytest.approx([0.2, 0, 0.2, 0, 0])
    losses = unit_difference_losses([LARGE], [SMALL], [], images_per_group=2)
    assert losses == pytest.approx([0.2, 0, 0.2, 0, 0])


def test_batch_normalization_of_non_local_blocks_uses_the_statistics_of_a_group():
    generator = torch.Generator().manual_seed(0)
    necks = [[torch.randn(4, 6, 8, 8, generator=generator)] for _ in range(2)]
    term = FeatureDistillation(transfer_weight=0, feature_weight=0, nonlocal_weight=1)
    torch.manual_seed(0)
    layers = nn.ModuleDict(term.adapters(Channels([6], [], (8,)), Channels([6], [], (8,))))
    for name in ("student0", "teacher0"):
        nn.init.normal_(layers[name].norm.weight)

    def loss_of(images: slice) -> float:
        student, teacher = (Maps(neck, [8]).subset(images) for neck in necks)
        batch = batch_of(*([[]] * len(student.neck[0])))
        (level,) = grouped_losses(term, student, teacher, batch, layers)["loss_fkd_nonlocal"]
        return level.item()

    mean_of_halves = (loss_of(slice(0, 2)) + loss_of(slice(2, 4))) / 2
    assert loss_of(slice(0, 4)) == pytest.approx(mean_of_halves, rel=1e-5)
    ungrouped = term.model_copy(update={"images_per_group": None})
    student, teacher = (Maps(neck, [8]) for neck in necks)
    (level,) = grouped_losses(ungrouped, student, teacher, batch_of([], [], [], []), layers)[
        "loss_fkd_nonlocal"
    ]
    assert level.item() != pytest.approx(mean_of_halves, rel=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("groups")


@pytest.mark.parametrize(("method", "detector"), CELLS)
def test_the_loss_of_groups_is_the_mean_of_their_losses_as_separate_batches(
    method: str, detector: str, folder: Path, quiet_mmdet: None, model_config: Any, images: Any
) -> None:
    from kd.models.build import build_model

    teacher, student = model_config(detector, backbone="r18-w0.25"), model_config(detector)
    for config in (teacher, student):
        if detector == "faster_rcnn":  # larger than the number of boxes: none is dropped at random
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
        grouped = _losses(model, name, settings | {"images_per_group": 2}, whole)
        first, second = (
            _losses(model, name, settings | {"images_per_group": None}, half) for half in halves
        )
        assert grouped.keys() == first.keys()
        for key, value in grouped.items():
            mean = (first[key] + second[key]) / 2
            torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)


def _losses(model: Any, name: str, settings: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
    """Return the losses of a method, each as a vector over levels."""
    from kd.observers import observe

    method: Method = method_of(settings)
    batch = Batch(batch.inputs, batch.samples, batch.progress, *_statistics(model))
    teacher = model.observe_teachers(batch)[method.needs.teacher]
    student = observe(model.student, batch, frozen=False)
    student.losses()  # records the label assignment, which some methods read
    losses = grouped_losses(method, student, teacher, batch, model.adapters[name])
    return {
        key: torch.stack(value if isinstance(value, list) else [value]).detach()
        for key, value in losses.items()
    }


def _statistics(model: Any) -> tuple[Tensor, Tensor]:
    preprocessor = model.data_preprocessor
    return preprocessor.mean.flatten(), preprocessor.std.flatten()
