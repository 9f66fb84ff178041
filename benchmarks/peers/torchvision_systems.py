"""torchvision's Faster R-CNN: its bare parts, and torchdistill's training of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from benchmarks.peers.gate import parameters
from benchmarks.peers.scenes import CLASSES, REPEATED, consecutive, read
from benchmarks.peers.work import OPTIMIZER, Work

LEVELS = [f"backbone.fpn.layer_blocks.{level}" for level in range(4)]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Target = dict[str, Tensor]


def detector(depth: int, side: int) -> FasterRCNN:
    """Return Faster R-CNN as torchvision makes it from a checkpoint, except for its weights.

    As in mmdet's configuration: 1,000 proposals in training, RoIAlign samples by a RoI's size.
    """
    torch.manual_seed(depth)  # what is proposed, and so what a step costs, depends on the weights
    body = resnet_fpn_backbone(
        backbone_name=f"resnet{depth}",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=3,
    )
    return FasterRCNN(
        body,
        num_classes=len(CLASSES) + 1,
        min_size=side,
        max_size=side,
        rpn_post_nms_top_n_train=1000,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio=0),
        _skip_resize=True,
    ).to(DEVICE)


class Shapes(Dataset[tuple[Tensor, Target]]):
    """The images as torchvision's detectors take them: RGB from 0 to 1, classes from 1."""

    def __init__(self, work: Work) -> None:
        self.items = [
            (scene.image / 255, {"boxes": scene.boxes, "labels": scene.labels + 1})
            for scene in read(work.images)
        ]

    def __len__(self) -> int:
        return REPEATED

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image, target = self.items[index % len(self.items)]
        return image, dict(target)

    @property
    def side(self) -> int:
        return self.items[0][0].shape[-1]


def parts(work: Work) -> None:
    """Serve the bare student's step and the bare teacher's forward up to its neck."""
    data = Shapes(work)
    student, teacher = detector(18, data.side).train(), detector(50, data.side).eval()
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, **OPTIMIZER)
    batches = consecutive(data, work.batch)
    pixels = teacher.transform(_on_device(next(consecutive(data, work.batch)))[0])[0].tensors

    def step() -> None:
        images, targets = _on_device(next(batches))
        optimizer.zero_grad()
        torch.stack(list(student(images, targets).values())).sum().backward()
        optimizer.step()

    def look() -> None:
        with torch.no_grad():
            teacher.backbone(pixels)

    run: dict[str, Callable[[], None]] = {"student": step, "teacher": look}
    while True:
        run[work.gate.wait(student=parameters(student), teacher=parameters(teacher))]()


def whole_teacher(work: Work) -> None:
    """Train with torchdistill and the teacher as in its sample of R50 -> R18: all of it runs."""
    hooked = {"output": LEVELS, "input": []}
    _torchdistill(work, {"forward_proc": "forward_batch_target", "forward_hook": hooked}, "")


def cut_teacher(work: Work) -> None:
    """Train with torchdistill and the teacher as in its samples of GHND: up to what is read."""
    teacher = {
        "forward_proc": "forward_batch_only",
        "auxiliary_model_wrapper": {
            "key": "HeadRCNN",
            "kwargs": {"head_rcnn": {"sequential": ["backbone"]}},
        },
        "forward_hook": {"output": [f"seq.{level}" for level in LEVELS], "input": []},
    }
    _torchdistill(work, teacher, "seq.")


def _torchdistill(work: Work, teacher: dict[str, Any], prefix: str) -> None:
    """Train as torchdistill's example of detection does; ``prefix`` is of the teacher's modules."""
    from torch.utils.data import default_collate
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.datasets.registry import register_collate_func
    from torchdistill.misc.log import MetricLogger, SmoothedValue

    register_collate_func(_collate, key="lists")
    data = Shapes(work)
    models = detector(50, data.side), detector(18, data.side)
    config = _training(work, teacher, prefix)
    box = get_distillation_box(*models, {"shapes": data}, config, DEVICE, None, False, 1)
    meters = MetricLogger(delimiter="  ")
    meters.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
    box.pre_epoch_process(epoch=0)
    for images, targets, extra in meters.log_every(box.train_data_loader, 50, "Epoch: [0]"):
        work.gate.wait(student=parameters(models[1]), teacher=parameters(models[0]))
        images, targets = _on_device(list(zip(images, targets, strict=True)))
        loss = box.forward_process(images, targets, default_collate(extra))
        box.post_forward_process(loss=loss)
        meters.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])


def _training(work: Work, teacher: dict[str, Any], prefix: str) -> dict[str, Any]:
    loader = {
        "dataset_id": "shapes",
        "sampler": {"class_or_func": SequentialSampler, "kwargs": None},
        "collate_fn": "lists",
        "kwargs": {"batch_size": work.batch, "num_workers": 0},
    }
    student = {
        "forward_proc": "forward_batch_target",
        "sequential": [],
        "forward_hook": {"output": LEVELS, "input": []},
        "requires_grad": True,
    }
    terms = {level: _squared_error(level, prefix + level) for level in LEVELS}
    return {
        "num_epochs": 1,
        "train_data_loader": loader,
        "teacher": {"sequential": [], "requires_grad": False, **teacher},
        "student": student,
        "optimizer": {"key": "SGD", "kwargs": dict(OPTIMIZER)},
        "scheduler": {"key": "MultiStepLR", "kwargs": {"milestones": [8, 11], "gamma": 0.1}},
        "criterion": {
            "key": "WeightedSumLoss",
            "func2extract_model_loss": "extract_model_loss_dict",
            "kwargs": {"model_term": {"weight": 1.0}, "sub_terms": terms},
        },
    }


def _squared_error(student: str, teacher: str) -> dict[str, Any]:
    """Return torchdistill's description of MSE between what two modules return."""
    student_output = {"is_from_teacher": False, "module_path": student, "io": "output"}
    teacher_output = {"is_from_teacher": True, "module_path": teacher, "io": "output"}
    return {
        "criterion": {"key": "MSELoss", "kwargs": {"reduction": "mean"}},
        "criterion_wrapper": {
            "key": "SimpleLossWrapper",
            "kwargs": {"input": student_output, "target": teacher_output},
        },
        "weight": 1.0,
    }


def _collate(samples: list[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*samples, strict=True))


def _on_device(items: list[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    images = [image.to(DEVICE) for image, _ in items]
    return images, [{k: v.to(DEVICE) for k, v in target.items()} for _, target in items]
