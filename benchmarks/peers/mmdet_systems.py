"""mmdet's Faster R-CNN: its bare parts, and mmengine's Runner with mmdet's own configuration."""

import kd.runtime  # noqa: F401, mmcv's operators come before what of mmdet needs them

# isort: split
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from benchmarks.peers.gate import parameters
from benchmarks.peers.scenes import CLASSES, REPEATED, consecutive, read
from benchmarks.peers.work import OPTIMIZER, Work

CONFIG = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
NARROW = [64, 128, 256, 512]
"""Channels of ResNet-18's stages."""


@DATASETS.register_module()
class Scenes(Dataset[dict[str, Any]]):
    """The images as mmdet's pipelines leave them: BGR, boxes in their own type."""

    metainfo: dict[str, Any] = {"classes": CLASSES}  # noqa: RUF012

    def __init__(self, images: str) -> None:
        self.scenes = read(Path(images))

    def full_init(self) -> None:
        """All is read already."""

    def __len__(self) -> int:
        return REPEATED

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene = self.scenes[index % len(self.scenes)]
        size = tuple(scene.image.shape[1:])
        sample = DetDataSample(
            metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
        )
        boxes = HorizontalBoxes(scene.boxes.clone(), clone=False)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=scene.labels.clone())
        sample.ignored_instances = InstanceData(
            bboxes=HorizontalBoxes(scene.boxes.new_zeros(0, 4)), labels=scene.labels.new_zeros(0)
        )
        return {"inputs": scene.image.flip(0), "data_samples": sample}


class Stop(Hook):
    """Gives all systems the same weights, and waits at the gate before each step.

    What is proposed, and so what a step costs, depends on the weights.
    """

    def __init__(self, work: Work) -> None:
        self.work = work

    def before_train(self, runner: Runner) -> None:
        model, self.teacher = runner.model, 0
        student = getattr(model, "student", model)
        student.load_state_dict(built(18).state_dict())
        self.student = parameters(student)
        if hasattr(model, "teacher"):
            model.teacher.load_state_dict(built(50).state_dict())
            self.teacher = parameters(model.teacher)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.work.gate.wait(student=self.student, teacher=self.teacher)


def detector(config: ConfigDict, depth: int) -> ConfigDict:
    """Return mmdet's configuration of Faster R-CNN R50 with another depth and random weights."""
    model = config.model
    model.backbone.depth, model.backbone.init_cfg = depth, None
    if depth < 50:
        model.neck.in_channels = NARROW
    model.roi_head.bbox_head.num_classes = len(CLASSES)
    return model


def parts(work: Work) -> None:
    """Serve the bare student's step and the bare teacher's forward up to its neck."""
    init_default_scope("mmdet")
    student, teacher = (built(depth).to(get_device()) for depth in (18, 50))
    student.train()
    teacher.eval()
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, **OPTIMIZER)
    batches = consecutive(Scenes(str(work.images)), work.batch)

    def batch() -> dict[str, Any]:
        return student.data_preprocessor(pseudo_collate(next(batches)), training=True)

    pixels = batch()["inputs"]

    def step() -> None:
        optimizer.zero_grad()
        student.parse_losses(student(**batch(), mode="loss"))[0].backward()
        optimizer.step()

    def look() -> None:
        with torch.no_grad():
            teacher.extract_feat(pixels)

    run: dict[str, Callable[[], None]] = {"student": step, "teacher": look}
    while True:
        run[work.gate.wait(student=parameters(student), teacher=parameters(teacher))]()


def runner(work: Work) -> None:
    """Train the student alone as mmdet's tools/train.py does."""
    config = get_config(CONFIG)
    detector(config, 18)
    train(config, work)


def train(config: Config, work: Work) -> None:
    """Train by mmengine's Runner, with the hooks, schedulers and logs of mmdet's configuration."""
    for name in ("val", "test"):
        config[f"{name}_dataloader"] = config[f"{name}_cfg"] = config[f"{name}_evaluator"] = None
    config.train_dataloader = {
        "batch_size": work.batch,
        "num_workers": 0,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {"type": "mmdet.Scenes", "images": str(work.images)},
    }
    config.optim_wrapper.optimizer.update(OPTIMIZER)
    config.work_dir = str(work.folder)
    run = Runner.from_cfg(config)
    run.register_hook(Stop(work))
    run.train()


def built(depth: int) -> Any:
    """Return mmdet's detector, always with the same random weights."""
    torch.manual_seed(depth)
    model = MODELS.build(detector(get_config(CONFIG), depth))
    model.init_weights()
    return model
