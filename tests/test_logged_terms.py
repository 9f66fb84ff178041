"""Logged distillation terms are the methods' losses on tensors taken from mmdet's own modules."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.published_imitation import Dense, View, one_sum
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
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained RetinaNet to teach."""
    import kd.runtime  # noqa: F401
    from kd.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        edit("configs/studies/tiny.yaml", tables__pair__methods=METHODS)
        edit("configs/schedules/tiny.yaml", epochs=1)
        train(write_run(TEACHER))
        yield


@pytest.mark.parametrize("method", METHODS)
def test_logged_terms_are_losses_on_tensors_of_hooks(
    method: str, project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd.distiller import Distiller
    from kd.train import train

    recomputed: list[dict[str, float]] = []
    forward = Distiller.forward

    def recorded(self: Distiller, inputs: Tensor, data_samples: Any, mode: str) -> Any:
        with Hooks() as hooks:
            losses = forward(self, inputs, data_samples, mode)
        with torch.no_grad():
            recomputed.append(hooks.losses(self, inputs, data_samples))
        return losses

    monkeypatch.setattr(Distiller, "forward", recorded)
    run = write_run(f"/{method}_from")
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
