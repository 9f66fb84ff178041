"""Rank mimicking and prediction-guided imitation on the class outputs of every head."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from kd.methods.features.pfi import PredictionGuidedImitation
from kd.methods.predictions.rm import RankMimicking
from kd.observers import OBSERVABLE

torch.set_num_threads(1)

RANKED = ["retinanet", "fcos", "atss", "gfl", "ssd300"]
MAPPED = [*RANKED, "yolov3"]
CLASSES = 8


@pytest.fixture
def pair(build: Any, batch: Any) -> Any:
    """Return a student, a teacher that predicts otherwise, and the batch."""
    from kd.observers import observe

    def observe_pair(
        family: str, boxes: tuple[int, int] = (3, 2), same: bool = False
    ) -> SimpleNamespace:
        torch.manual_seed(1)
        detectors = build(family), build(family)
        with torch.no_grad():
            for parameter in [] if same else detectors[1].bbox_head.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        data = batch(boxes)
        student = observe(detectors[0], data, frozen=False)
        student.losses()
        # In training mode both normalize by the batch, so equal weights mean equal outputs.
        return SimpleNamespace(
            student=student, teacher=observe(detectors[1], data, frozen=True), batch=data
        )

    return observe_pair


def ranked(pair: SimpleNamespace, **changes: Any) -> dict[str, Tensor]:
    settings = {"score": "probability", **changes}
    return RankMimicking(**settings).losses(pair.student, pair.teacher, pair.batch, {})


def imitated(pair: SimpleNamespace, **settings: Any) -> list[Tensor]:
    literal = {"input": "probability", "reduction": "squared"}
    method = PredictionGuidedImitation(**{**literal, **settings})
    return method.losses(pair.student, pair.teacher, pair.batch, {})["loss_pfi"]


def scores_by_hand(model: Any, level: int) -> Tensor:
    """Return (B, H, W, A, K) scores from the head's own output."""
    output = model.outputs[0][level].detach().permute(0, 2, 3, 1)
    if hasattr(model.head, "num_attrib"):  # YOLOv3: box, objectness, classes
        output = output.unflatten(3, (model.head.num_base_priors, -1))
        return output[..., 5:].sigmoid() * output[..., 4:5].sigmoid()
    if type(model.head).__name__.endswith("SSDHead"):
        return output.unflatten(3, (-1, CLASSES + 1)).softmax(4)
    return output.unflatten(3, (-1, CLASSES)).sigmoid()


def divergence(teacher: list[float], student: list[float]) -> float:
    """Return the KL divergence of the softmaxes of two lists of scores."""
    p, q = (
        [math.exp(s) / sum(map(math.exp, scores)) for s in scores] for scores in (teacher, student)
    )
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


# --- Rank mimicking ------------------------------------------------------------------------


@pytest.mark.parametrize("family", RANKED)
def test_ranks_equal_a_loop_over_objects_on_the_heads_own_outputs(pair, family):
    models = pair(family)
    scores = [
        torch.cat([scores_by_hand(model, i).flatten(1, 3) for i in range(len(model.neck))], 1)
        for model in (models.teacher, models.student)
    ]
    by_class, by_place, several = 0.0, 0.0, 0
    for image, (boxes, labels) in enumerate(
        zip(models.batch.gt_boxes, models.batch.gt_labels, strict=True)
    ):
        for index, label in enumerate(labels):
            prior = (models.student.assignment[image] == index).nonzero().flatten()
            several += len(prior) > 1
            pair_of_scores = [model_scores[image, prior, label].tolist() for model_scores in scores]
            by_class += divergence(*pair_of_scores) if len(prior) else 0
            overlaps = [
                box_iou(model.boxes(prior * 0 + image, prior), boxes[index][None])[:, 0].tolist()
                for model in (models.teacher, models.student)
            ]
            by_place += divergence(*overlaps) if len(prior) else 0
    assert several > 0
    losses = ranked(models, weight=1)
    assert losses["loss_rm_cls"].item() == pytest.approx(by_class / 5, rel=1e-3, abs=1e-7)
    assert losses["loss_rm_loc"].item() == pytest.approx(by_place / 5, rel=1e-3, abs=1e-7)
    assert min(by_class, by_place) > 1e-6


@pytest.mark.parametrize("family", RANKED)
def test_equal_models_rank_alike(pair, family):
    assert [value.item() for value in ranked(pair(family, same=True)).values()] == pytest.approx(
        [0, 0], abs=1e-6
    )


@pytest.mark.parametrize("family", RANKED)
def test_gradients_reach_positive_priors_alone(pair, family):
    models = pair(family)
    positive = models.student.assignment >= 0
    logits, codes = models.student.logits, models.student.raw_codes
    losses = ranked(models)
    by_class, by_place = (
        torch.autograd.grad(losses[name], into, retain_graph=True)[0]
        for name, into in (("loss_rm_cls", logits), ("loss_rm_loc", codes))
    )
    for gradient in (by_class, by_place):
        assert gradient[~positive].eq(0).all()
        assert gradient[positive].ne(0).any()
    if not models.student.softmax:  # a softmax has all classes of a prior in its scores
        assert by_class.ne(0).sum() <= positive.sum()


@pytest.mark.parametrize("family", ["fcos", "atss"])
def test_centerness_has_no_gradient(pair, family):
    models = pair(family)
    losses = [*ranked(models).values(), *imitated(models)]
    centerness = models.student.outputs[2]
    gradients = torch.autograd.grad(sum(losses), centerness, allow_unused=True)
    assert gradients == (None,) * len(centerness)


@pytest.mark.parametrize("family", RANKED)
@pytest.mark.parametrize("boxes", [(0, 0), (1, 0)], ids=str)
def test_without_objects_or_with_one_it_is_finite(pair, family, boxes):
    models = pair(family, boxes)
    losses = ranked(models)
    if boxes == (0, 0):
        assert [value.item() for value in losses.values()] == [0, 0]
    gradients = torch.autograd.grad(
        sum(losses.values()), [models.student.logits, models.student.raw_codes]
    )
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("family", RANKED)
def test_it_draws_the_ranked_boxes_of_the_first_image(pair, family):
    models = pair(family)
    boxes = (
        RankMimicking().focus(models.student, models.teacher, models.batch).boxes["ranked boxes"]
    )
    assert boxes.shape == (int((models.student.assignment[0] >= 0).sum()), 4)


def test_the_heads_that_offer_their_needs():
    rank, imitate = RankMimicking().needs.both, PredictionGuidedImitation().needs.both
    assert {name for name, offered in OBSERVABLE.items() if rank <= offered} == {
        "anchor", "gfl", "point", "ssd", "vfnet", "tood", "ddod", "rtmdet", "yolox",
    }  # fmt: skip
    assert {name for name, offered in OBSERVABLE.items() if imitate <= offered} == {
        "anchor", "gfl", "point", "ssd", "yolo", "vfnet", "tood", "ddod", "reppoints", "rtmdet",
        "yolox",
    }  # fmt: skip


# --- Prediction-guided imitation -----------------------------------------------------------


@pytest.mark.parametrize("family", MAPPED)
def test_levels_worked_out_from_the_heads_own_outputs(pair, family):
    models = pair(family)
    with torch.no_grad():
        models.teacher.neck  # noqa: B018
        models.teacher.outputs  # noqa: B018
        models.teacher.neck = [level + torch.randn_like(level) for level in models.teacher.neck]
    losses = imitated(models, weight=1)
    assert len(losses) == len(models.student.neck) > 2
    for level, loss in enumerate(losses):
        scores = [scores_by_hand(model, level) for model in (models.teacher, models.student)]
        p_dif = (scores[0] - scores[1]).square().mean((3, 4))
        f_dif = (models.teacher.neck[level] - models.student.neck[level]).square().mean(1)
        by_hand = (p_dif * f_dif).square().mean() / len(losses)
        assert by_hand > 0
        torch.testing.assert_close(loss, by_hand)


@pytest.mark.parametrize("family", MAPPED)
def test_equal_models_imitate_nothing(pair, family):
    assert sum(imitated(pair(family, same=True))).item() == 0


@pytest.mark.parametrize("family", MAPPED)
def test_it_draws_the_prediction_difference_over_the_image(pair, family):
    models = pair(family)
    focus = PredictionGuidedImitation().focus(models.student, models.teacher, models.batch)
    assert len(focus.maps) == len(models.student.neck)
    for stride, focus_map in zip(models.student.strides, focus.maps.values(), strict=True):
        assert focus_map.shape == models.batch.inputs.shape[2:]
        assert stride >= focus_map.shape[0] or focus_map.unique().numel() > 1
