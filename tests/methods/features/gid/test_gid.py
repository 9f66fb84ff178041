"""GID's losses: values of the method reference, and gradients."""

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from kd import methods
from kd.config.library import Library
from kd.methods.features.gid import (
    GeneralInstanceDistillation,
    class_response,
    feature_loss,
    pool,
    relation_loss,
    relative_distances,
    responding_priors,
    rois_of,
)
from kd.observers import Channels, observe
from tests.methods.features.gid.gid_scene import PRIORS, STRIDES, batch_of, losses, regions, view
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

FAMILIES = ["retinanet", "gfl", "fcos", "atss", "faster_rcnn"]
TERMS = {"loss_gid_feature", "loss_gid_relation", "loss_gid_cls", "loss_gid_reg"}
POINTS = torch.tensor([[0.0, 0], [3, 4], [0, 8]]), torch.tensor([[0.0, 0], [1, 0], [0, 1]])
"""Regions of a teacher and of a student, of two features each."""


# --- Features ------------------------------------------------------------------------------


def test_each_region_is_pooled_from_the_level_of_its_size():
    """The maps are constant; stride 16 begins at a side of 224 pixels."""
    maps = [torch.full((2, 3, 40, 40), value) for value in (16.0, 8.0)]
    maps[0][1] += 1
    boxes = torch.tensor([[0.0, 0, 300, 300], [0, 0, 200, 200], [9, 9, 200, 290], [0, 0, 230, 230]])
    (pooled,) = pool([maps], STRIDES, rois_of([boxes[:1], boxes[1:]]))
    assert pooled.shape == (4, 3, 10, 10)
    assert pooled.mean((1, 2, 3)).tolist() == pytest.approx([16, 8, 17, 17])


@pytest.mark.parametrize(("side", "stride"), [(223, 8), (223.9, 8), (224, 16)])
def test_no_pixel_is_added_to_a_pooled_region(side, stride):
    """A square of 224 px is the first of stride 16, as in detectron2's pooler."""
    maps = [torch.full((1, 1, 30, 30), float(level_stride)) for level_stride in STRIDES]
    (pooled,) = pool([maps], STRIDES, rois_of([torch.tensor([[0.0, 0, side, side]])]))
    assert pooled.unique().tolist() == [stride]


def test_a_region_of_a_ramp_has_its_columns():
    ramp = torch.arange(12.0).expand(1, 1, 8, 12)
    ((pooled,),) = pool([[ramp]], [8], rois_of([torch.tensor([[20.0, 8, 60, 40]])]))
    by_hand = (20 + (torch.arange(10) + 0.5) * 4) / 8 - 0.5
    torch.testing.assert_close(pooled[0], by_hand.expand(10, 10))


def test_feature_losses_worked_out_by_hand():
    """Two regions of two channels and 2 x 3 cells, off by 1 and by 2 everywhere."""
    teacher = torch.zeros(2, 2, 2, 3)
    student = torch.tensor([1.0, 2.0])[:, None, None, None].expand_as(teacher)
    losses_by_norm = [
        feature_loss(teacher, student, norm).item() for norm in ("euclidean", "squared")
    ]
    assert losses_by_norm == pytest.approx([(12**0.5 + 48**0.5) / 2, (12 + 48) / (2 * 6)])


# --- Relations -----------------------------------------------------------------------------


def test_golden_relation():
    distances = [relative_distances(points).tolist() for points in POINTS]
    assert distances[0] == pytest.approx([5 / 6, 8 / 6, 5 / 6])
    assert distances[1] == pytest.approx([0.878680, 0.878680, 1.242641], abs=1e-6)
    assert relation_loss(*POINTS).item() == pytest.approx(0.062716, abs=1e-6)


def test_relations_do_not_change_with_scale_rotation_and_translation():
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    expected = relation_loss(teacher, student)
    assert expected > 0.01
    torch.testing.assert_close(relation_loss(teacher, 7 * student @ rotation + 3), expected)
    torch.testing.assert_close(relation_loss(5 * teacher, student), expected)
    assert relation_loss(teacher, 2 * teacher).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_regions_have_no_relation(count):
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, count, 6, generator=generator)
    loss = relation_loss(teacher, student.requires_grad_())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7) and student.grad.abs().sum() < 1e-6


def test_equal_features_have_finite_gradients():
    for form in (relation_loss, lambda t, s: feature_loss(t, s, "euclidean")):
        teacher, student = torch.ones(3, 1, 2, 2), torch.ones(3, 1, 2, 2).requires_grad_()
        loss = form(teacher, student)
        loss.backward()
        assert loss.item() == 0 and student.grad.eq(0).all()


def test_relations_by_image_or_over_the_batch():
    student, teacher = view(0), view(1)
    rois_by_model = [rois_of(regions(student, teacher)) for _ in range(2)]
    models = zip((teacher, student), rois_by_model, strict=True)
    pooled = [pool([model.neck], STRIDES, rois)[0] for model, rois in models]
    sizes = [len(boxes) for boxes in regions(student, teacher)]
    parts = [features.split(sizes) for features in pooled]
    by_image = sum(relation_loss(*pair) for pair in zip(*parts, strict=True)) / 2
    only = {"feature": 0, "response": 0, "relation": 40}
    by_default = losses(student, teacher, **only)["loss_gid_relation"]
    torch.testing.assert_close(by_default, 40 * by_image)
    over_batch = losses(student, teacher, **only, relation_over="batch")["loss_gid_relation"]
    torch.testing.assert_close(over_batch, 40 * relation_loss(*pooled))


# --- Responses -----------------------------------------------------------------------------


def test_responding_priors_worked_out_by_hand():
    regions = torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60]])
    anchors = torch.tensor([[0.0, 0, 20, 10], [0, 0, 20, 9], [40, 40, 60, 60], [5, 5, 8, 8]])
    points = torch.tensor([[5.0, 5], [20, 5], [41, 59], [30, 30]]).repeat(1, 2)
    priors = torch.cat([anchors, points])
    expected = [True, False, True, False, True, False, True, False]
    assert responding_priors(priors, regions, 0.5).tolist() == expected
    assert not responding_priors(priors, regions[:0], 0.5).any()


def test_responses_worked_out_by_hand():
    """The only region equals the first prior; sigmoid(0) = 1/2 costs log 2 for any teacher."""
    student, teacher = view(0, images=1), view(1, images=1)
    student.logits[:], teacher.logits[:] = 0, -20
    teacher.logits[0, 0], teacher.decoded[0, 0] = 3, PRIORS[0]
    student.encoded[:], teacher.encoded[:] = 0, torch.tensor([1.0, -2, 0.5, 0])
    settings = {"feature": 0, "relation": 0, "count": 1, "response": 2}
    terms = losses(student, teacher, **settings)
    log_2 = 0.6931472
    assert terms["loss_gid_cls"].item() == pytest.approx(2 * 0.1 * 2 * log_2)
    assert terms["loss_gid_reg"].item() == pytest.approx(2 * 1.0 * 3.5)


def test_a_softmax_responds_with_its_cross_entropy():
    teacher, student = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[1.0, 1.0]]).log()
    assert class_response(teacher, student, True).item() == pytest.approx(0.6931472)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(student, teacher.sigmoid()) * 2
    torch.testing.assert_close(class_response(teacher, student, False)[0], expected)


def test_equal_models_cost_the_entropy_of_their_responses_and_send_no_gradient():
    student, teacher = view(0, gradients=True), view(0)
    terms = losses(student, teacher)
    zeros = [terms[f"loss_gid_{name}"].item() for name in ("feature", "relation", "reg")]
    assert zeros == [0, 0, 0]
    assert terms["loss_gid_cls"] > 0.1 * 2 * 0.1
    sum(terms.values()).backward()
    for tensor in (*student.neck, student.logits, student.encoded):
        assert tensor.grad.abs().max() < 1e-6


# --- The method ----------------------------------------------------------------------------


def test_gradients_reach_the_student_in_the_regions_and_no_teacher():
    student, teacher = view(0, gradients=True), view(1, gradients=True)
    losses(student, teacher, count=1).pop("loss_gid_feature").backward()
    assert sum(tensor.grad.ne(0).sum() for tensor in student.neck) > 0
    terms = losses(student, teacher, count=1)
    sum(terms.values()).backward()
    priors = student.logits.grad.ne(0).any(2)
    assert 0 < priors.sum() < 10
    assert torch.equal(priors, student.encoded.grad.ne(0).any(2))
    assert all(tensor.grad is None for tensor in (*teacher.neck, teacher.logits, teacher.encoded))


@pytest.mark.parametrize("norm", ["euclidean", "squared"])
def test_without_regions_every_term_is_zero_and_the_adapter_has_a_gradient(norm):
    student, teacher = view(0, gradients=True), view(1, channels=6)
    method = GeneralInstanceDistillation(instances="positive", norm=norm)
    adapters = nn.ModuleDict(method.adapters(Channels([4, 4], []), Channels([6, 6], [])))
    terms = method.losses(student, teacher, batch_of(), adapters)
    assert terms.keys() == TERMS
    sum(terms.values()).backward()
    assert all(value.item() == 0 for value in terms.values())
    assert all(tensor.grad.eq(0).all() for tensor in adapters.parameters())
    assert all(tensor.grad.eq(0).all() for tensor in (*student.neck, student.logits))


@pytest.mark.parametrize("setting", ["always", "where_widths_differ"])
@pytest.mark.parametrize("widths", [(4, 4), (4, 6)], ids=str)
def test_one_adapter_for_all_levels(setting, widths):
    student, teacher = view(0), view(1, channels=widths[1])
    method = GeneralInstanceDistillation(adapter=setting)
    layers = method.adapters(*(Channels([width, width], []) for width in widths))
    assert bool(layers) == (setting == "always" or widths[0] != widths[1])
    adapters = nn.ModuleDict(layers)
    if layers:
        sum(method.losses(student, teacher, batch_of(), adapters).values()).backward()
    assert all(parameter.grad.ne(0).all() for parameter in adapters.parameters())


def test_gradcheck_of_every_loss():
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 4, 2, 2, 2, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    for norm in ("euclidean", "squared"):
        assert torch.autograd.gradcheck(lambda s, n=norm: feature_loss(teacher, s, n), student)
    assert torch.autograd.gradcheck(lambda s: relation_loss(teacher, s), student)
    for softmax in (True, False):
        assert torch.autograd.gradcheck(
            lambda s, form=softmax: class_response(teacher.flatten(1), s.flatten(1), form), student
        )


@pytest.mark.parametrize("channels", [16, 24], ids=["same width", "adapted"])
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps, channels):
    """The regions are ground truth: rounded scores may choose others.

    Distances between regions of noise are nearly equal, so relations are looked at below.
    """
    full, rounded = distil_random_maps(GeneralInstanceDistillation(instances="truth"), channels)
    for term in TERMS - {"loss_gid_relation"}:
        assert rounded[term].dtype == torch.float32
        torch.testing.assert_close(rounded[term], full[term], rtol=0.01, atol=0)
    _, rounded = distil_random_maps(GeneralInstanceDistillation(), channels)
    assert all(value.isfinite() and value > 0 for value in rounded.values())


def test_relations_of_rounded_features_within_a_percent():
    generator = torch.Generator().manual_seed(0)
    full = 100 * torch.randn(2, 10, 16, generator=generator)
    rounded = full.bfloat16().float()
    torch.testing.assert_close(relation_loss(*rounded), relation_loss(*full), rtol=0.01, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("boxes", [(3, 2), (1, 0), (0, 0)], ids=str)
def test_gid_on_detectors(build, batch, family, boxes):
    data = batch(boxes)
    student, teacher = (observe(build(family, seed=i), data, frozen=bool(i)) for i in range(2))
    student.losses()
    teacher.detector.eval()
    method = GeneralInstanceDistillation(least_side=0)
    widths = Channels([student.neck[0].shape[1]] * 5, [])
    adapters = nn.ModuleDict(method.adapters(widths, widths))
    terms = method.losses(student, teacher, data, adapters)
    assert terms.keys() == TERMS
    assert all(value.isfinite() and value >= 0 for value in terms.values())
    assert terms["loss_gid_feature"] > 0
    sum(terms.values()).backward()
    assert any(parameter.grad is not None for parameter in student.detector.backbone.parameters())
    focus_boxes = method.focus(student, teacher, data).boxes["general instances"]
    assert 1 <= len(focus_boxes) <= 10
    assert box_iou(focus_boxes, focus_boxes).fill_diagonal_(0).max() <= 0.3


@pytest.mark.parametrize(
    ("preset", "terms"),
    [
        ("gid_feature", {"loss_gid_feature"}),
        ("gid_relation", {"loss_gid_relation"}),
        ("gid_response", {"loss_gid_cls", "loss_gid_reg"}),
        ("gid_feature_response", TERMS - {"loss_gid_relation"}),
        ("gid_rewrite", TERMS),
    ],
)
def test_rows_of_the_ablation(preset, terms):
    method = methods.get("gid").model_validate(Library(CONFIGS).presets[preset].settings)
    computed = method.losses(view(0), view(1), batch_of(), nn.ModuleDict())
    assert computed.keys() == terms
    assert ("pyramid" in method.needs.both) == (preset != "gid_response")


def test_the_rewrite_worked_out_from_its_parts():
    student, teacher = view(0), view(1)
    settings = Library(CONFIGS).presets["gid_rewrite"].settings
    rois = rois_of(regions(student, teacher, score="maxima"))
    pooled = pool([teacher.neck, student.neck], STRIDES, rois)
    terms = losses(student, teacher, **settings)
    squares = (pooled[0] - pooled[1]).square().sum() / (len(rois) * 100)
    torch.testing.assert_close(terms["loss_gid_feature"], 5e-4 * squares)
    torch.testing.assert_close(terms["loss_gid_relation"], 40 * relation_loss(*pooled))
