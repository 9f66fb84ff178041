"""Mimic: the distance of region features by hand, and both forms on a two-stage detector."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from kd.methods.features.mimic import Mimic, region_distance
from kd.observers import Channels, TwoStageObservation

torch.set_num_threads(1)

FORMS = ["paper", "united_perception"]


@pytest.fixture
def features():
    """Return region features (6, 3, 2, 2) of student and teacher."""
    return tuple(torch.randn(2, 6, 3, 2, 2, dtype=torch.float64))


@pytest.fixture
def models(build, batch) -> SimpleNamespace:
    """Return student and teacher of random weights, and their batch."""
    data = batch()
    student = TwoStageObservation(build("faster_rcnn"), data, frozen=False)
    teacher = TwoStageObservation(build("faster_rcnn", seed=1).eval(), data, frozen=True)
    student.losses()
    return SimpleNamespace(student=student, teacher=teacher, batch=data)


def loss_of(models: SimpleNamespace, adapters: Any = (), **settings: object) -> torch.Tensor:
    method = Mimic(**settings)
    terms = method.losses(models.student, models.teacher, models.batch, adapters)
    assert set(terms) == {"loss_mimic"}
    return terms["loss_mimic"]


def identity(channels: int) -> nn.ModuleDict:
    layer = nn.Conv2d(channels, channels, 1)
    nn.init.dirac_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.ModuleDict({"regression": layer})


# --- The distance -----------------------------------------------------------------------------


def test_by_hand():
    """Two regions of 2 x 1 x 1 elements cost (9 + 16 + 1 + 0) / (2 x 2), and half of it by size."""
    student = torch.zeros(2, 2, 1, 1)
    teacher = torch.tensor([[3.0, 4.0], [1.0, 0.0]])[:, :, None, None]
    assert region_distance(student, teacher, False).item() == pytest.approx(26 / 4)
    assert region_distance(student, teacher, True).item() == pytest.approx(26 / 8)


def test_by_size_the_distance_is_half_the_mean_square_as_in_united_perception(features):
    expected = nn.functional.mse_loss(*features) / 2
    torch.testing.assert_close(region_distance(*features, True), expected)


@pytest.mark.parametrize("by_size", [True, False])
def test_properties(features, by_size):
    student, teacher = features
    assert region_distance(student, student, by_size) == 0
    once = region_distance(student, teacher, by_size)
    twice = region_distance(torch.cat([student] * 2), torch.cat([teacher] * 2), by_size)
    torch.testing.assert_close(once, twice)
    student.requires_grad_(), teacher.requires_grad_()
    region_distance(student, teacher, by_size).backward()
    assert student.grad.ne(0).all() and teacher.grad is None


@pytest.mark.parametrize("by_size", [True, False])
def test_without_regions_an_attached_zero(by_size):
    student = torch.zeros(0, 3, 2, 2, requires_grad=True)
    loss = region_distance(student, torch.zeros(0, 3, 2, 2), by_size)
    loss.backward()
    assert loss.item() == 0 and student.grad.shape == student.shape


def test_gradcheck(features):
    student, teacher = features
    student.requires_grad_()
    for by_size in (True, False):
        assert torch.autograd.gradcheck(
            lambda s, n=by_size: region_distance(s, teacher, n), student
        )


# --- On a detector ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_both_models_pool_the_proposals_of_one(models, form):
    pooled = []
    for model in (models.student, models.teacher):
        features = model.roi_features
        model.roi_features = lambda rois, f=features: pooled.append(rois) or f(rois)
    loss_of(models, identity(16), form=form)
    proposing = models.student if form == "paper" else models.teacher
    other = models.teacher if form == "paper" else models.student
    assert len(pooled) == 2 and pooled[0] is pooled[1]
    assert torch.equal(pooled[0][:, 1:], torch.cat(proposing.proposals))
    counts = [len(boxes) for boxes in proposing.proposals]
    assert pooled[0][:, 0].long().bincount().tolist() == counts and min(counts) > 0
    assert not torch.equal(pooled[0][:, 1:], torch.cat(other.proposals))
    assert not pooled[0].requires_grad


@pytest.mark.parametrize("form", FORMS)
def test_equal_detectors_cost_nothing(models, form):
    models.teacher = TwoStageObservation(models.student.detector, models.batch, frozen=True)
    models.teacher.neck = [level.detach() for level in models.student.neck]
    assert loss_of(models, identity(16), form=form).item() == pytest.approx(0, abs=1e-10)
    models.teacher.neck = [level + 1 for level in models.teacher.neck]
    models.teacher._regions.clear()
    assert loss_of(models, identity(16), form="paper").item() > 0.01


def test_gradients_only_where_regions_are_pooled(models):
    """One proposal at the second image's corner gives no gradient to the first or the teacher."""
    models.teacher.proposals = [torch.zeros(0, 4), torch.tensor([[0.0, 0, 16, 16]])]
    gradients = torch.autograd.grad(
        loss_of(models, form="united_perception"), models.student.neck, allow_unused=True
    )
    cells = [g.abs().sum(1).ne(0) for g in gradients if g is not None]
    assert len(cells) >= 1
    finest = cells[0]
    assert not finest[0].any()
    assert finest[1, :5, :5].any() and not finest[1, 6:].any() and not finest[1, :, 6:].any()
    assert all(p.grad is None for p in models.teacher.detector.parameters())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("empty", [True, False])
def test_adapters_always_get_a_gradient(models, form, empty):
    layers = nn.ModuleDict(
        Mimic(form=form).adapters(Channels([16] * 5, []), Channels([16] * 5, []))
    )
    assert len(layers) == (form == "paper")
    if empty:
        none = [torch.zeros(0, 4)] * 2
        models.student.proposals = models.teacher.proposals = none
    loss = loss_of(models, layers, form=form)
    loss.backward()
    assert (loss.item() == 0) == empty
    for parameter in layers.parameters():
        assert parameter.grad.eq(0).all().item() == empty


def test_images_without_objects(build, batch):
    data = batch((0, 0))
    student = TwoStageObservation(build("faster_rcnn"), data, frozen=False)
    student.losses()
    teacher = TwoStageObservation(build("faster_rcnn", seed=1).eval(), data, frozen=True)
    models = SimpleNamespace(student=student, teacher=teacher, batch=data)
    assert loss_of(models, identity(16)).isfinite()


def test_a_regression_joins_different_channels():
    layers = Mimic(form="united_perception").adapters(Channels([4] * 2, []), Channels([6] * 2, []))
    assert layers["regression"].weight.shape == (6, 4, 1, 1)


def test_the_weight_multiplies(models):
    layers = identity(16)
    torch.testing.assert_close(loss_of(models, layers, weight=3), 3 * loss_of(models, layers))


def test_float32_within_a_percent_on_features_of_half_precision(models):
    """Region features of magnitude 100 are pooled from half precision in float32."""
    torch.manual_seed(0)
    values = []
    necks = [
        [torch.randn_like(level) * 100 for level in model.neck]
        for model in (models.student, models.teacher)
    ]
    rois = [boxes.clone() for boxes in models.teacher.proposals]
    for dtype in (torch.float32, torch.bfloat16):
        for model, neck in zip((models.student, models.teacher), necks, strict=True):
            model.neck = [level.to(dtype) for level in neck]
            model._regions.clear()
        models.teacher.proposals = rois
        values.append(loss_of(models, form="united_perception"))
    assert values[1].dtype == torch.float32 and values[0] > 100
    torch.testing.assert_close(values[1], values[0], rtol=0.01, atol=0)


def test_focus_boxes_are_the_proposals(models):
    proposals = Mimic().focus(models.student, models.teacher, models.batch).boxes["proposals"]
    assert torch.equal(proposals, models.student.proposals[0]) and len(proposals)
