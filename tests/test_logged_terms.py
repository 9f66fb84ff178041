"""Logged distillation terms are the methods' losses on tensors taken from mmdet's own modules."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kd.observation import Candidates
from tests.conftest import tiny
from tests.methods.published_imitation import Dense, Pooled, View, one_sum
from tests.tiny import TEACHER, edit, make_project, write_run

torch.set_num_threads(1)

METHODS = [
    "defeat",
    "fgfi_defeat",
    "fgfi_ld",
    "fitnets",
    "fitnets_object_ld",
    "fitnets_positive",
    "fkd",
    "soft_labels",
    "soft_labels_ld",
    "tadf_neck",
]
TWO_STAGE = ["mimic", "defeat_head", "soft_labels"]
REGIONS = {
    "title": "A detector of two stages",
    "dataset": "coco2017",
    "schedule": "1x",
    "detectors": ["faster_rcnn"],
    "pairs": [{"teacher": "r50", "student": "r18"}],
    "methods": TWO_STAGE,
}
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained RetinaNet to teach."""
    import kd.runtime  # noqa: F401
    from kd.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        edit("configs/studies/tiny.yaml", tables__pair__methods=METHODS, tables__regions=REGIONS)
        edit("configs/scales/tiny.yaml", detectors__faster_rcnn=tiny("faster_rcnn"))
        edit("configs/schedules/tiny.yaml", epochs=1)
        train(write_run(TEACHER))
        train(write_run(TEACHER.replace("retinanet", "faster_rcnn")))
        yield


@pytest.mark.parametrize(
    ("detector", "method"),
    [("retinanet", method) for method in METHODS]
    + [("faster_rcnn", method) for method in TWO_STAGE],
)
def test_logged_terms_are_losses_on_tensors_of_hooks(
    detector: str, method: str, project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd.distiller import Distiller
    from kd.train import train

    recomputed: list[dict[str, float]] = []
    forward = Distiller.forward

    def recorded(self: Distiller, inputs: Tensor, data_samples: Any, mode: str) -> Any:
        with (RegionHooks if detector == "faster_rcnn" else Hooks)() as hooks:
            losses = forward(self, inputs, data_samples, mode)
        with torch.no_grad():
            recomputed.append(hooks.losses(self, inputs, data_samples))
        return losses

    monkeypatch.setattr(Distiller, "forward", recorded)
    run = write_run(f"{detector}-r18-w0.125/{method}_from")
    train(run)
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(logged) == len(recomputed) == 6
    for record, terms in zip(logged, recomputed, strict=True):
        assert terms
        for name, value in terms.items():
            assert record[name] == pytest.approx(value, rel=TOLERANCE, abs=1e-9)
    assert any(value > 0 for terms in recomputed for value in terms.values())


class Hooks:
    """Outputs of every neck and dense head that is called meanwhile, in the order of calls."""

    def __enter__(self) -> "Hooks":
        from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
        from mmdet.models.necks import FPN

        self.necks: list[tuple[Any, list[Tensor]]] = []
        self.heads: list[tuple[Any, list[Tensor]]] = []

        def keep(module: Any, _: Any, output: Any) -> None:
            if isinstance(module, FPN):
                self.necks.append((module, list(output)))
            elif isinstance(module, BaseDenseHead):
                self.heads.append((module, list(output[0])))

        self.handle = torch.nn.modules.module.register_module_forward_hook(keep)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def losses(self, model: Any, inputs: Tensor, samples: list[Any]) -> dict[str, float]:
        """Return the model's distillation terms, computed from what the modules returned."""
        from kd.image_groups import grouped_losses
        from kd.observation import Batch

        ((name, term),) = model.terms.items()
        student, teacher = (self._view(each, samples) for each in (model.student, model.teacher))
        batch = Batch(inputs, samples, model.progress)
        losses = grouped_losses(term, student, teacher, batch, model.adapters[name])
        return {key: float(value) for key, value in one_sum(losses).items()}

    def _view(self, detector: Any, samples: list[Any]) -> View:
        head = detector.bbox_head
        neck = next(maps for module, maps in self.necks if module is detector.neck)
        logits = [maps for module, maps in self.heads if module is head]
        sizes = [level.shape[-2:] for level in neck]
        priors = head.prior_generator.grid_priors(sizes, device="cpu")
        assignment = _assignment(head, sizes, samples)
        if logits:
            return _WithClasses(head, neck, by_prior(logits[0], head), assignment, priors)
        return View(tuple(stride[0] for stride in head.prior_generator.strides), neck)


class RegionHooks(Hooks):
    """RoIs, pooled features and class outputs of every second stage, in the order of calls."""

    def __enter__(self) -> "RegionHooks":
        from mmdet.models.roi_heads.bbox_heads import BBoxHead
        from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

        self.pooled: list[tuple[Any, Tensor, Tensor]] = []
        self.classes: list[tuple[Any, Tensor, Tensor]] = []

        def keep(module: Any, arguments: Any, output: Any) -> None:
            if isinstance(module, SingleRoIExtractor):
                self.pooled.append((module, arguments[1], output))
            elif isinstance(module, BBoxHead):
                rois = next(each[1] for each in self.pooled if each[2] is arguments[0])
                self.classes.append((module, rois, output[0]))

        self.handle = torch.nn.modules.module.register_module_forward_hook(keep)
        return self

    def losses(self, model: Any, inputs: Tensor, samples: list[Any]) -> dict[str, float]:
        from kd.image_groups import grouped_losses
        from kd.observation import Batch

        ((name, term),) = model.terms.items()
        heads = [each.roi_head for each in (model.student, model.teacher)]
        if name.startswith("mimic"):
            views = self._features(heads, len(inputs))
        else:
            views = self._class_outputs(heads, samples)
        batch = Batch(inputs, samples, model.progress)
        losses = grouped_losses(term, *views, batch, model.adapters[name])
        return {key: float(value) for key, value in one_sum(losses).items()}

    def _features(self, heads: list[Any], images: int) -> list[Any]:
        """Return views of the features that both pooled from the teacher's call's RoIs."""
        (rois,) = (rois for module, rois, _ in self.pooled if module is heads[1].bbox_roi_extractor)
        features = [
            next(
                output
                for module, boxes, output in self.pooled
                if module is head.bbox_roi_extractor and boxes.equal(rois)
            )
            for head in heads
        ]
        return [Pooled(each, rois, slice(None), images) for each in features]

    def _class_outputs(self, heads: list[Any], samples: list[Any]) -> list[Any]:
        """Return views of the class outputs on the RoIs that the teacher classified."""
        (rois,) = (rois for module, rois, _ in self.classes if module is heads[1].bbox_head)
        logits = [
            next(
                output
                for module, boxes, output in self.classes
                if module is head.bbox_head and boxes.equal(rois)
            )
            for head in heads
        ]
        instance = torch.tensor([_object_of(roi, samples) for roi in rois], dtype=torch.long)
        return [_RoIs(each, rois, instance) for each in logits]


class _RoIs(View):
    """Class outputs of sampled RoIs."""

    candidate_softmax = True

    def __init__(self, logits: Tensor, rois: Tensor, instance: Tensor) -> None:
        index = torch.arange(len(rois))
        self.logits, self.proposals = logits, []
        self.candidates = Candidates(rois[:, 0].long(), index, instance, rois)

    def sample(self, proposals: list[Tensor]) -> Any:
        return self.candidates

    def candidate_logits(self, candidates: Any) -> Tensor:
        return self.logits[candidates.index]


def _object_of(roi: Tensor, samples: list[Any]) -> int:
    """Return 0 for a RoI that overlaps an object by half, the limit of the assigner, else -1."""
    from torchvision.ops import box_iou

    boxes = samples[int(roi[0])].gt_instances.bboxes
    boxes = getattr(boxes, "tensor", boxes)
    overlaps = box_iou(roi[None, 1:], boxes)
    return 0 if overlaps.numel() and overlaps.max() >= 0.5 else -1


class _WithClasses(Dense):
    """Neck maps, priors and class outputs of a dense head."""

    def __init__(self, head: Any, neck: Any, logits: Tensor, assignment: Any, priors: Any) -> None:
        super().__init__(logits, assignment, priors)
        self.head, self.neck = head, neck
        self.strides = [stride[0] for stride in head.prior_generator.strides]

    def part(self, images: slice) -> "_WithClasses":
        neck = [level[images] for level in self.neck]
        parts = self.logits[images], self.assignment[images]
        return _WithClasses(self.head, neck, *parts, self.level_priors)


def by_prior(maps: list[Tensor], head: Any) -> Tensor:
    """Return (B, N, K) from class maps (B, A K, H, W)."""
    outputs = head.cls_out_channels
    return torch.cat(
        [level.permute(0, 2, 3, 1).reshape(len(level), -1, outputs) for level in maps], 1
    )


def _assignment(head: Any, sizes: list[Any], samples: list[Any]) -> Tensor:
    """Return (B, N) from mmdet's targets: 0 for a prior that has an object, -1 for the others."""
    metas = [sample.metainfo for sample in samples]
    truth = [sample.gt_instances for sample in samples]
    anchors, valid = head.get_anchors(sizes, metas, device="cpu")
    labels, *_ = head.get_targets(anchors, valid, truth, metas)
    joined = torch.cat(labels, 1)
    positive = (joined >= 0) & (joined < head.num_classes)
    return torch.where(positive, 0, -1)
