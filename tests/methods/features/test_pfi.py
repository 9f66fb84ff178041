"""Prediction-guided imitation: values of the method reference, and properties."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from kd.methods.features.pfi import PredictionGuidedImitation, guided_distance, prediction_gap
from kd.observers import Channels

torch.set_num_threads(1)

LITERAL = {"input": "probability", "reduction": "squared"}
"""The paper's form, the default of these tests."""
REDUCTIONS = ["squared", "linear", "norm", "image_norm"]
SIZES = [(4, 6), (2, 3), (1, 1)]
"""Rows and columns of the levels of the random maps."""


@dataclass
class View:
    """Observation of a sigmoid head: neck and class maps."""

    neck: list[Tensor]
    class_maps: list[Tensor]

    @property
    def probability_maps(self) -> list[Tensor]:
        return [maps.sigmoid() for maps in self.class_maps]


@pytest.fixture
def models() -> tuple[View, View]:
    """Return student and teacher: two images, three levels, 5 channels, 6 class outputs."""
    generator = torch.Generator().manual_seed(0)

    def maps(channels: int) -> list[Tensor]:
        return [torch.randn(2, channels, *size, generator=generator) for size in SIZES]

    student, teacher = View(maps(5), maps(6)), View(maps(5), maps(6))
    for level in student.neck + student.class_maps:
        level.requires_grad_()
    return student, teacher


def losses(models: tuple[View, View], adapters: object = (), **settings: object) -> list[Tensor]:
    method = PredictionGuidedImitation(**{**LITERAL, **settings})
    terms = method.losses(*models, None, adapters)
    assert set(terms) == {"loss_pfi"}
    return terms["loss_pfi"]


def total(models: tuple[View, View], **settings: object) -> Tensor:
    return torch.stack(losses(models, **settings)).sum()


def cell(*values: float) -> Tensor:
    """Return a map of one cell, (1, C, 1, 1)."""
    return torch.tensor(values)[None, :, None, None]


# --- Golden values -------------------------------------------------------------------------


def test_golden_value_of_one_cell():
    """P_dif = (0.2^2 + 0.1^2) / 2, F_dif = (1^2 + 2^2) / 2."""
    gap = prediction_gap(cell(0.8, 0.1), cell(0.6, 0.2))
    assert gap.item() == pytest.approx(0.025)
    distance = torch.tensor([[[2.5]]])
    assert guided_distance(gap, distance, "squared").item() == pytest.approx(0.00390625)
    assert guided_distance(gap, distance, "linear").item() == pytest.approx(0.0625)
    assert guided_distance(gap, distance, "norm").item() == pytest.approx(0.0625)


@pytest.mark.parametrize(("reduction", "expected"), [("squared", 0.00390625), ("linear", 0.0625)])
def test_golden_value_of_the_method(reduction, expected):
    teacher = View([cell(4.0, 5.0)], [cell(0.8, 0.1).logit()])
    student = View([cell(3.0, 3.0)], [cell(0.6, 0.2).logit()])
    (loss,) = losses((student, teacher), weight=1, reduction=reduction)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_reductions_of_two_cells_and_two_images_worked_out_by_hand():
    gap = torch.tensor([[[1.0, 2.0]], [[0.0, 1.0]]])  # (2 images, 1 row, 2 columns)
    distance = torch.tensor([[[3.0, 2.0]], [[5.0, 1.0]]])  # products 3 and 4; 0 and 1
    distances = {name: guided_distance(gap, distance, name).item() for name in REDUCTIONS}
    by_hand = {
        "squared": (9 + 16 + 0 + 1) / 4,
        "linear": (3 + 4 + 0 + 1) / 4,
        "norm": (math.sqrt(9 + 16) + math.sqrt(0 + 1)) / 2 / (2 * 1 * 2),
        "image_norm": (math.sqrt(9 + 16) / 2 + math.sqrt(0 + 1) / 2) / 2,
    }
    assert distances == pytest.approx(by_hand)


def test_the_norm_divides_by_the_images_of_a_batch_twice():
    """In mmrazor d5c36191 an image's norm is divided by N H W, then averaged over images."""
    ones = torch.ones(2, 1, 1)
    assert guided_distance(ones, ones, "norm").item() == 0.5
    assert guided_distance(ones[:1], ones[:1], "norm").item() == 1


def test_logits_instead_of_probabilities():
    """The squared gap of the logits (1, 3) and (0, 1) is (1 + 4) / 2."""
    teacher, student = View([cell(1.0)], [cell(1.0, 3.0)]), View([cell(0.0)], [cell(0.0, 1.0)])
    (raw,) = losses((student, teacher), weight=1, reduction="linear", input="logit")
    (probable,) = losses((student, teacher), weight=1, reduction="linear")
    assert raw.item() == pytest.approx(2.5)
    sigmoids = [1 / (1 + math.exp(-z)) for z in (1, 3, 0, 1)]
    by_hand = ((sigmoids[0] - sigmoids[2]) ** 2 + (sigmoids[1] - sigmoids[3]) ** 2) / 2
    assert probable.item() == pytest.approx(by_hand, rel=1e-5)


def test_the_default_is_the_norm_of_an_images_products_over_logits(models):
    student, teacher = models
    terms = PredictionGuidedImitation().losses(student, teacher, None, ())["loss_pfi"]
    gap = (teacher.class_maps[0] - student.class_maps[0]).square().mean(1)
    distance = (teacher.neck[0] - student.neck[0]).square().mean(1)
    norms = (gap * distance).flatten(1).norm(dim=1) / 24
    torch.testing.assert_close(terms[0], 1.5 / 3 * norms.mean())


def test_each_level_and_image_counts_the_same_whatever_its_size(models):
    for level, term in enumerate(losses(models, weight=1)):
        by_image = []
        for image in range(2):
            p = [m.class_maps[level][image].sigmoid() for m in models]
            f = [m.neck[level][image] for m in models]
            product = (p[0] - p[1]).pow(2).mean(0) * (f[0] - f[1]).pow(2).mean(0)
            by_image.append(product.pow(2).mean())
        torch.testing.assert_close(term, torch.stack(by_image).mean() / len(SIZES))
    assert len(losses(models)) == len(SIZES)


def test_the_weight_is_the_papers_beta(models):
    torch.testing.assert_close(1.5 * total(models, weight=1), total(models))


# --- Properties ----------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("agreeing", ["class_maps", "neck"])
def test_agreement_in_predictions_or_in_features_costs_nothing(models, agreeing, reduction):
    student, teacher = models
    assert total(models, reduction=reduction).item() > 1e-3
    setattr(teacher, agreeing, [level.detach().clone() for level in getattr(student, agreeing)])
    loss = total(models, reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert all(level.grad.isfinite().all() for level in student.neck + student.class_maps)


@pytest.mark.parametrize(("reduction", "power"), [("squared", 4), ("linear", 2), ("norm", 2)])
def test_features_scaled_by_k_scale_the_loss_by_a_power_of_k(models, reduction, power):
    scaled = [View([3 * level for level in m.neck], m.class_maps) for m in models]
    torch.testing.assert_close(
        total(scaled, reduction=reduction), 3**power * total(models, reduction=reduction)
    )


@pytest.mark.parametrize(("reduction", "power"), [("squared", 2), ("linear", 1)])
def test_gradient_of_a_feature_scales_with_a_power_of_the_prediction_gap(reduction, power):
    gradients = []
    for scale in (1.0, 3.0):
        feature = cell(1.0, -2.0).requires_grad_()
        distance = feature.square().mean(1)
        loss = guided_distance(torch.full((1, 1, 1), 0.1 * scale), distance, reduction)
        gradients += torch.autograd.grad(loss, feature)
    torch.testing.assert_close(gradients[1], 3**power * gradients[0])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradient_is_exactly_zero_in_cells_where_predictions_agree(models, reduction):
    student, teacher = models
    with torch.no_grad():
        teacher.class_maps[0][1, :, 2, 3] = student.class_maps[0][1, :, 2, 3]
    total(models, reduction=reduction).backward()
    gradient = student.neck[0].grad
    assert gradient[1, :, 2, 3].eq(0).all()
    assert gradient.ne(0).sum() == gradient.numel() - 5


def test_permuting_classes_in_both_models_changes_nothing_but_in_one_does(models):
    order = [5, 0, 3, 1, 4, 2]
    permuted = [View(m.neck, [level[:, order] for level in m.class_maps]) for m in models]
    torch.testing.assert_close(total(permuted), total(models))
    assert not torch.isclose(total((permuted[0], models[1])), total(models), rtol=0.01)


def test_every_student_map_gets_a_gradient(models):
    student, _ = models
    total(models).backward()
    assert all(level.grad.ne(0).all() for level in student.neck + student.class_maps)


def test_a_detached_gap_weights_alike_but_sends_no_gradient_to_the_class_maps(models):
    student, _ = models
    loss = total(models, detach_prediction=True)
    torch.testing.assert_close(loss, total(models), rtol=0, atol=0)
    loss.backward()
    assert all(level.grad is None for level in student.class_maps)
    assert all(level.grad.ne(0).all() for level in student.neck)


# --- Adapters ------------------------------------------------------------------------------


def test_adapters_only_where_channels_differ():
    widths = Channels([16, 16, 32], []), Channels([24, 16, 16], [])
    adapters = PredictionGuidedImitation().adapters(*widths)
    assert set(adapters) == {"level0", "level2"}
    assert adapters["level0"].weight.shape == (24, 16, 1, 1)
    assert adapters["level2"].weight.shape == (16, 32, 1, 1)


def test_an_adapter_maps_the_students_features_and_is_trained(models):
    student, teacher = models
    wide = [torch.cat([level, level[:, :2]], 1) for level in teacher.neck]
    torch.manual_seed(0)
    adapters = nn.ModuleDict(
        PredictionGuidedImitation().adapters(Channels([5] * 3, []), Channels([7] * 3, []))
    )
    terms = losses((student, View(wide, teacher.class_maps)), adapters)
    adapted_student = View(
        [adapters[f"level{i}"](f) for i, f in enumerate(student.neck)], student.class_maps
    )
    torch.testing.assert_close(terms, losses((adapted_student, View(wide, teacher.class_maps))))
    sum(terms).backward()
    assert all(parameter.grad.ne(0).all() for parameter in adapters.parameters())


# --- Numerics ------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(reduction):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 2, 3, 2, 2, generator=generator, dtype=torch.float64)
    teacher, student, feature = maps[0], maps[1].requires_grad_(), maps[2].requires_grad_()

    def loss(student: Tensor, feature: Tensor) -> Tensor:
        gap = prediction_gap(teacher.sigmoid(), student.sigmoid())
        return guided_distance(gap, feature.square().mean(1), reduction)

    assert torch.autograd.gradcheck(loss, (student, feature))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("channels", [16, 24], ids=["same width", "adapted"])
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(
    distil_random_maps, channels, reduction
):
    full, rounded = distil_random_maps(
        PredictionGuidedImitation(input="probability", reduction=reduction), channels
    )
    for full_term, rounded_term in zip(full["loss_pfi"], rounded["loss_pfi"], strict=True):
        assert rounded_term.dtype == torch.float32
        torch.testing.assert_close(rounded_term, full_term, rtol=0.01, atol=0)
