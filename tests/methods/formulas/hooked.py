"""Tensors of a real training, recorded by forward hooks on mmdet's modules without ``kd``."""

import copy
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from kd.config.run import Run
from kd.training.train import build_runner

EXTRACTOR = "roi_head.bbox_roi_extractor"
DENSE = ("backbone", "neck", "bbox_head.retina_cls", "bbox_head.retina_reg")
TWO_STAGE = ("backbone", "neck", "rpn_head", EXTRACTOR, "roi_head.bbox_head")


@dataclass
class Detector:
    """A detector and the outputs of its modules in one step."""

    model: Any
    calls: dict[str, list[tuple[Any, Any]]]
    """Arguments and output of each call, in order, by the module's name."""

    def outputs(self, name: str) -> list[Any]:
        """Return what a module returned, call by call."""
        return [output for _, output in self.calls[name]]

    @property
    def stages(self) -> list[Tensor]:
        """The backbone's maps, each (B, C, H, W)."""
        return list(self.outputs("backbone")[-1])

    @property
    def neck(self) -> list[Tensor]:
        """The neck's maps by level, each (B, C, H, W)."""
        return list(self.outputs("neck")[-1])

    @property
    def class_maps(self) -> list[Tensor]:
        """RetinaNet's class logits by level, each (B, A * K, H, W)."""
        return self.outputs("bbox_head.retina_cls")[-len(self.neck) :]

    @property
    def logits(self) -> Tensor:
        """RetinaNet's class logits (B, N, K) by level, row, column and anchor."""
        return by_prior(self.class_maps, self.model.bbox_head.num_classes)

    @property
    def codes(self) -> Tensor:
        """RetinaNet's encoded boxes (B, N, 4)."""
        return by_prior(self.outputs("bbox_head.retina_reg")[-len(self.neck) :], 4)

    def proposals(self, samples: list[Any]) -> list[Tensor]:
        """Return the boxes (n, 4) that mmdet proposes for each image, xyxy in pixels."""
        metas = [sample.metainfo for sample in samples]
        config = self.model.train_cfg.get("rpn_proposal", self.model.test_cfg.rpn)
        outputs = self.outputs("rpn_head")[-1]
        results = self.model.rpn_head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=config)
        return [result.bboxes for result in results]

    def rois(self, call: int) -> Tensor:
        """Return the RoIs (R, 5), image and xyxy in pixels, of one call of the RoI extractor."""
        arguments, _ = self.calls[EXTRACTOR][call]
        return arguments[1]

    def features(self, rois: Tensor) -> Tensor:
        """Return the features (R, C, k, k) that the RoI extractor returned for RoIs (R, 5)."""
        calls = self.calls[EXTRACTOR]
        return next(output for (_, call_rois), output in calls if torch.equal(call_rois, rois))

    def regions(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class logits (R, K + 1) and codes (R, 4 K) of RoIs (R, 5)."""
        features = self.features(rois)
        calls = self.calls["roi_head.bbox_head"]
        return next(output for (inputs,), output in calls if torch.equal(inputs, features))


@dataclass
class Step:
    """A training step: ground truth, both detectors, and the adapters before the step."""

    inputs: Tensor
    """(B, 3, H, W), normalized."""
    boxes: list[Tensor]
    """Per image (G, 4), xyxy in pixels."""
    labels: list[Tensor]
    """Per image (G,)."""
    samples: list[Any]
    adapters: nn.ModuleDict
    student: Detector
    teacher: Detector
    distiller: Any
    record: dict[str, float] = field(default_factory=dict)
    """The step's line in ``log.jsonl``."""

    @cached_property
    def strides(self) -> list[int]:
        """Pixels per cell of each neck level."""
        model = self.student.model
        head = model.rpn_head if hasattr(model, "rpn_head") else model.bbox_head
        return [stride for stride, _ in head.prior_generator.strides]

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each neck level."""
        return [(level.shape[-2], level.shape[-1]) for level in self.student.neck]

    @cached_property
    def level_anchors(self) -> list[Tensor]:
        """RetinaNet's anchors by level, each (n, 4), xyxy in pixels."""
        return self.student.model.bbox_head.prior_generator.grid_priors(self.sizes, device="cpu")

    @cached_property
    def anchors(self) -> Tensor:
        """(N, 4), xyxy in pixels."""
        return torch.cat(self.level_anchors)

    @cached_property
    def assignment(self) -> Tensor:
        """(B, N): each anchor's box in its image by mmdet's assigner, -1 background, -2 ignored."""
        assign, assignments = self.student.model.bbox_head.assigner.assign, []
        for boxes, labels in zip(self.boxes, self.labels, strict=True):
            priors, truth = InstanceData(priors=self.anchors), InstanceData(bboxes=boxes)
            truth.labels = labels
            indices = assign(priors, truth).gt_inds
            assignments.append(torch.where(indices > 0, indices - 1, -1 - (indices < 0).long()))
        return torch.stack(assignments)


def by_prior(maps: Sequence[Tensor], channels: int) -> Tensor:
    """Return (B, N, channels) of maps (B, A * channels, H, W)."""
    rows = [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in maps]
    return torch.cat(rows, 1)


def train(run: Run, modules: Sequence[str]) -> list[Step]:
    """Train a run; return the steps in its log, with the outputs of ``modules``."""
    runner = build_runner(run.config, Path(run.directory))
    distiller, steps = runner.model, []
    student = record_calls(distiller.student, modules)
    teacher = record_calls(distiller.teacher, modules)

    def begin(_: Any, arguments: Any, arguments_by_name: dict[str, Any]) -> None:
        for calls in (student, teacher):
            calls.clear()
        truth = [sample.gt_instances for sample in arguments_by_name["data_samples"]]
        steps.append(
            Step(
                copied(arguments_by_name["inputs"]),
                [copied(getattr(image.bboxes, "tensor", image.bboxes)) for image in truth],
                [image.labels for image in truth],
                arguments_by_name["data_samples"],
                copy.deepcopy(distiller.adapters),
                Detector(distiller.student, {}),
                Detector(distiller.teacher, {}),
                distiller,
            )
        )

    def end(*_: Any) -> None:
        steps[-1].student.calls, steps[-1].teacher.calls = dict(student), dict(teacher)

    distiller.register_forward_pre_hook(begin, with_kwargs=True)
    distiller.register_forward_hook(end)
    runner.train()
    for line in (run.directory / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        steps[record["step"] - 1].record = record
    return [step for step in steps if step.record]


def record_calls(detector: nn.Module, modules: Sequence[str]) -> dict[str, list[tuple[Any, Any]]]:
    """Register hooks that append the arguments and the output of each call, by module."""
    calls: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    for name in modules:

        def record(_: Any, arguments: Any, output: Any, name: str = name) -> None:
            calls[name].append((copied(arguments), copied(output)))

        detector.get_submodule(name).register_forward_hook(record)
    return calls


def copied(value: Any) -> Any:
    """Return copies of tensors, also of those in tuples and lists."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return type(value)(map(copied, value)) if isinstance(value, (tuple, list)) else value
