"""Tensors of a real training, recorded by forward hooks on mmdet's modules without ``kd``."""

import copy
import json
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
LEVELS = 5
_DENSE = ("backbone", "neck", "bbox_head.cls_convs.0", "bbox_head.reg_convs.0")
RETINANET = (*_DENSE, "bbox_head.retina_cls", "bbox_head.retina_reg")
GFL = (*_DENSE, "bbox_head.gfl_cls", *(f"bbox_head.scales.{level}" for level in range(LEVELS)))
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

    def by_level(self, name: str) -> list[Tensor]:
        """Return what a module returned for each level, in its first calls.

        CrossKD calls the teacher's modules once more, on the student's features.
        """
        return self.outputs(name)[:LEVELS]

    @property
    def class_maps(self) -> list[Tensor]:
        """Class logits by level, each (B, A * K, H, W); those of an RPN have one class."""
        if "rpn_head" in self.calls:
            return list(self.outputs("rpn_head")[0][0])
        predictors = ("bbox_head.retina_cls", "bbox_head.gfl_cls")
        return self.by_level(next(name for name in predictors if name in self.calls))

    @property
    def logits(self) -> Tensor:
        """Class logits (B, N, K) of a dense head by level, row, column and anchor."""
        return by_prior(self.class_maps, self.model.bbox_head.num_classes)

    @property
    def codes(self) -> Tensor:
        """RetinaNet's encoded boxes (B, N, 4)."""
        return by_prior(self.by_level("bbox_head.retina_reg"), 4)

    @property
    def has_sides(self) -> bool:
        """True for GFL, which predicts distributions of box sides."""
        return "bbox_head.scales.0" in self.calls

    @property
    def sides(self) -> Tensor:
        """GFL's logits (B, N, 4, bins) of the distances to a box's sides, in strides."""
        calls = [self.outputs(f"bbox_head.scales.{level}") for level in range(LEVELS)]
        # A teacher's class branch runs apart from its box branch, with box maps of no channel.
        maps = [next(output for output in outputs if output.shape[1]) for outputs in calls]
        return by_prior(maps, maps[0].shape[1]).unflatten(2, (4, -1))

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
    seed: int
    """Seed of torch's generator."""
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
        """Anchors of a dense head by level, each (n, 4), xyxy in pixels."""
        return self.student.model.bbox_head.prior_generator.grid_priors(self.sizes, device="cpu")

    @cached_property
    def anchors(self) -> Tensor:
        """(N, 4), xyxy in pixels."""
        return torch.cat(self.level_anchors)

    @cached_property
    def assignment(self) -> Tensor:
        """(B, N): each anchor's box in its image by mmdet's assigner, -1 background, -2 ignored."""
        assign, assignments = self.student.model.bbox_head.assigner.assign, []
        counts = [len(anchors) for anchors in self.level_anchors]
        for boxes, labels in zip(self.boxes, self.labels, strict=True):
            priors, truth = InstanceData(priors=self.anchors), InstanceData(bboxes=boxes)
            truth.labels = labels
            # GFL's assigner, ATSS, assigns level by level.
            arguments = (counts, truth) if self.student.has_sides else (truth,)
            indices = assign(priors, *arguments).gt_inds
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
    student: dict[str, list[tuple[Any, Any]]] = {}
    teacher: dict[str, list[tuple[Any, Any]]] = {}
    handles = []
    for calls, detector in ((student, distiller.student), (teacher, distiller.teacher)):
        handles += record_calls(detector, modules, calls)

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
                torch.initial_seed(),
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
    for handle in handles:
        handle.remove()  # formulas may call the teacher's modules
    for line in (run.directory / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        steps[record["step"] - 1].record = record
    return [step for step in steps if step.record]


def record_calls(
    detector: nn.Module, modules: Sequence[str], calls: dict[str, list[tuple[Any, Any]]]
) -> list[Any]:
    """Register hooks that append the arguments and the output of each call, by module."""
    handles = []
    for name in modules:

        def record(_: Any, arguments: Any, output: Any, name: str = name) -> None:
            calls.setdefault(name, []).append((copied(arguments), copied(output)))

        handles.append(detector.get_submodule(name).register_forward_hook(record))
    return handles


def copied(value: Any) -> Any:
    """Return copies of tensors, also of those in tuples and lists."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return type(value)(map(copied, value)) if isinstance(value, (tuple, list)) else value
