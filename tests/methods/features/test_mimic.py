"""Mimic: the distance of region features by hand, and both forms on a two-stage detector."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from torch import nn

from kd.methods.features.mimic import Mimic, region_squares
from kd.observers import Channels, TwoStageObservation

torch.set_num_threads(1)

FORMS = ["paper", "united_perception"]


@pytest.fixture
def difference():
    """Return a difference of region features (6, 3, 2, 2)."""
    return torch.randn(6, 3, 2, 2, dtype=torch.float64)


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
    """Two regions of 2 x 1 x 1 elements have the sum 9 + 16 + 1 + 0, and half of it by size."""
    difference = torch.tensor([[3.0, 4.0], [1.0, 0.0]])[:, :, None, None]
    assert region_squares(difference, False).item() == 26
    assert region_squares(difference, True).item() == 13


@pytest.mark.parametrize("by_size", [True, False])
def test_without_regions_an_attached_zero(by_size):
    difference = torch.zeros(0, 3, 2, 2, requires_grad=True)
    total = region_squares(difference, by_size)
    total.backward()
    assert total.item() == 0 and difference.grad.shape == difference.shape


def test_gradcheck(difference):
    difference.requires_grad_()
    for by_size in (True, False):
        assert torch.autograd.gradcheck(lambda d, n=by_size: region_squares(d, n), difference)


# --- On a detector ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_proposals_of_one_model_are_pooled_once(models, form):
    pooled = []
    for model in (models.student, models.teacher):
        pool = model.pool
        model.pool = lambda maps, rois, f=pool: pooled.append(rois) or f(maps, rois)
    loss_of(models, identity(16), form=form)
    proposing = models.student if form == "paper" else models.teacher
    other = models.teacher if form == "paper" else models.student
    (rois,) = pooled
    assert torch.equal(rois[:, 1:], torch.cat(proposing.proposals))
    counts = [len(boxes) for boxes in proposing.proposals]
    assert rois[:, 0].long().bincount().tolist() == counts and min(counts) > 0
    assert not torch.equal(rois[:, 1:], torch.cat(other.proposals))
    assert not rois.requires_grad


BEYOND = torch.tensor([[-30.0, -30, 20, 20], [60.0, 40, 130, 90], [0.0, 0, 96, 64]])
"""Boxes that exceed an image of 96 x 64 pixels at two corners, and the whole image."""


@pytest.mark.parametrize("regressed", [True, False])
def test_pooling_the_difference_of_maps_equals_the_difference_of_pooled_maps(models, regressed):
    models.teacher.proposals = [BEYOND, BEYOND[:2]]
    torch.manual_seed(0)
    layers = nn.ModuleDict({"regression": nn.Conv2d(16, 16, 1)} if regressed else {})
    weights = list(layers.parameters())
    sources = [*models.student.neck[:4], *weights]
    loss = loss_of(models, layers, form="united_perception")
    gradients = torch.autograd.grad(loss, sources, allow_unused=True)

    rois = bbox2roi(models.teacher.proposals)
    student, teacher = (
        model.pool(model.region_maps, rois) for model in (models.student, models.teacher)
    )
    student = layers["regression"](student) if regressed else student
    expected = nn.functional.mse_loss(student, teacher) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, sources, allow_unused=True))
    assert len([gradient for gradient in gradients if gradient is not None]) >= 2


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
