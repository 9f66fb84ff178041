"""FKD: values of the method reference, values by hand, and properties."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.config.library import Library
from kd.config.terms import method_of, resolve
from kd.methods.features.fkd import (
    DEPENDENT_SETTINGS,
    FeatureDistillation,
    attention_mask,
    channel_attention,
    distance,
    spatial_attention,
)
from kd.methods.ops.nonlocal_block import NonLocalBlock, ZeroBatchNorm
from kd.observers import Channels
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

IDENTITY = nn.ModuleDict()
"""No learned layers: maps are compared directly."""
ONE = {"transfer_weight": 1, "feature_weight": 1, "nonlocal_weight": 1}
FORMS = ["code", "paper"]
SIZES = [(8, 12), (4, 6), (2, 3), (1, 1)]


def view(neck: list[Tensor], strides: list[int] | None = None) -> SimpleNamespace:
    return SimpleNamespace(neck=neck, strides=strides or [8 * 2**i for i in range(len(neck))])


def models(channels: int = 6, wide: int = 6, images: int = 2) -> tuple[Any, Any]:
    """Return student and teacher with four levels, the last of one cell."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        [torch.randn(images, width, *size, generator=generator) for size in SIZES]
        for width in (channels, wide)
    )
    for level in student + teacher:
        level.requires_grad_()
    return view(student), view(teacher)


def losses(pair: Any, adapters: nn.ModuleDict = IDENTITY, **settings: Any) -> dict[str, Any]:
    return FeatureDistillation(**settings).losses(*pair, None, adapters)


def total(terms: dict[str, Any]) -> Tensor:
    return sum(sum(by_level) for by_level in terms.values())


def learned(pair: Any, **settings: Any) -> nn.ModuleDict:
    torch.manual_seed(0)
    widths = (Channels([level.shape[1] for level in m.neck], [], tuple(m.strides)) for m in pair)
    return nn.ModuleDict(FeatureDistillation(**settings).adapters(*widths))


# --- Golden values -------------------------------------------------------------------------

STUDENT = torch.tensor([[1.0, -2.0], [3.0, 0.0]])[None, :, None]
TEACHER = torch.tensor([[2.0, -1.0], [1.0, 1.0]])[None, :, None]
GOLDEN = view([STUDENT], [8]), view([TEACHER], [8])


@pytest.mark.parametrize(
    ("attention", "summed", "expected"),
    [
        (spatial_attention, False, [1.611856, 0.388144]),
        (spatial_attention, True, [1.905148, 0.094852]),
        (channel_attention, False, [1.231059, 0.768941]),
        (channel_attention, True, [1.462117, 0.537883]),
    ],
)
def test_golden_values_of_masks(attention, summed, expected):
    mask = attention_mask(attention(STUDENT), attention(TEACHER), 0.5, summed)
    assert mask.flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("form", "channel_mask", "expected"),
    [("code", False, 2.972468), ("code", True, 2.778177), ("paper", True, 2.659744)],
)
def test_golden_values_of_masked_features(form, channel_mask, expected):
    settings = {"form": form, "temperature": 0.5, "channel_mask": channel_mask}
    (loss,) = losses(GOLDEN, **ONE | settings)["loss_fkd_feature"]
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("form", "expected"), [("code", 1.118034), ("paper", 0.5)])
def test_golden_values_of_attention_transfer(form, expected):
    terms = losses(GOLDEN, **ONE, form=form)
    assert terms["loss_fkd_channel"][0].item() == pytest.approx(expected, abs=1e-6)
    assert terms["loss_fkd_spatial"][0].item() == pytest.approx(expected, abs=1e-6)


def test_attention_transfer_through_its_layers_worked_out_by_hand():
    """Channel means (-1/2, 3/2) twice against (1/2, 1), cell means (2, -1) + 1 against (3/2, 0)."""
    channel, spatial = nn.Linear(2, 2, bias=False), nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        channel.weight.copy_(2 * torch.eye(2))
        spatial.weight.zero_()[0, 0, 1, 1] = 1
        spatial.bias.fill_(1)
    terms = losses(GOLDEN, nn.ModuleDict({"channel0": channel, "spatial0": spatial}), **ONE)
    assert terms["loss_fkd_channel"][0].item() == pytest.approx(math.hypot(1.5, 2), rel=1e-6)
    assert terms["loss_fkd_spatial"][0].item() == pytest.approx(math.hypot(1.5, 0), rel=1e-6)


def ones_block(residual: bool, pool: int = 1) -> NonLocalBlock:
    """Return a block of one channel whose layers all multiply by 1."""
    block = NonLocalBlock(1, 1, pool, residual)
    with torch.no_grad():
        for layer in (block.theta, block.phi, block.g, block.out):
            layer.weight.fill_(1)
            layer.bias.zero_()
    return block


@pytest.mark.parametrize(("pool", "mean"), [(1, (1 + 4) / 2), (2, 4)])
def test_a_relation_worked_out_by_hand(pool, mean):
    """The map (1, 2) times its mean square, or times the larger cell's square if pooled."""
    maps = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    block = ones_block(residual=False, pool=pool)
    assert block(maps).flatten().tolist() == pytest.approx([1 * mean, 2 * mean])
    layers = nn.ModuleDict({"student0": block, "teacher0": block})
    pair = view([maps], [8]), view([torch.zeros_like(maps)], [8])
    loss = losses(pair, layers, **ONE, form="paper")["loss_fkd_nonlocal"][0]
    assert loss.item() == pytest.approx(math.hypot(mean, 2 * mean))


# --- Masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("attention", [spatial_attention, channel_attention])
def test_masks_are_positive_and_one_on_average_in_every_image(attention, summed):
    student, teacher = models()
    both = attention(student.neck[0]), attention(teacher.neck[0])
    mask = attention_mask(*both, 0.5, summed).flatten(1)
    assert (mask > 0).all()
    torch.testing.assert_close(mask.mean(1), torch.ones(2))


@pytest.mark.parametrize("form", FORMS)
def test_at_a_high_temperature_features_are_compared_as_they_are(form):
    student, teacher = models()
    terms = losses((student, teacher), **ONE, form=form, temperature=1e7)["loss_fkd_feature"]
    for level, term in enumerate(terms):
        norm = (student.neck[level] - teacher.neck[level]).norm()
        torch.testing.assert_close(term, norm, rtol=1e-5, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_masks_have_no_gradient(form):
    """The gradient is the weighted difference over the norm."""
    student, teacher = models()
    method = FeatureDistillation(**ONE | {"transfer_weight": 0, "nonlocal_weight": 0}, form=form)
    (term, *_) = method.losses(student, teacher, None, IDENTITY)["loss_fkd_feature"]
    term.backward()
    pair = student.neck[0].detach(), teacher.neck[0].detach()
    expected = method._mask(*pair) * (pair[0] - pair[1]) / term.detach()
    torch.testing.assert_close(student.neck[0].grad, expected)


# --- Non-local block -----------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_a_new_block_changes_nothing(training):
    maps = torch.randn(2, 6, 9, 7)
    assert torch.equal(NonLocalBlock(6, 3, 8).train(training)(maps), maps)


def test_a_block_is_the_sum_over_all_pairs_of_cells():
    torch.manual_seed(0)
    maps, block = torch.randn(2, 6, 5, 4), NonLocalBlock(6, 3, 2)
    nn.init.normal_(block.norm.weight)
    phi, g = (nn.functional.max_pool2d(f(maps), 2).flatten(2) for f in (block.phi, block.g))
    assert phi.shape[2] == 4
    affinity = torch.einsum("bci,bcj->bij", block.theta(maps).flatten(2), phi) / 4
    relation = torch.einsum("bij,bcj->bci", affinity, g).unflatten(2, (5, 4))
    norm = nn.BatchNorm2d(6)
    norm.weight = block.norm.weight
    torch.testing.assert_close(block(maps), maps + norm(block.out(relation)))


@pytest.mark.parametrize(
    ("preset", "sides"), [("fkd_mmrazor", (4, 4, 4, 2)), ("fkd", (8, 8, 8, 4, 2))]
)
def test_maps_are_pooled_over_the_windows_of_their_level(preset, sides):
    """Maps have 64, 32, ... cells a side; mmrazor's block pools by 2 before its windows."""
    (settings,) = resolve(preset, {}, "faster_rcnn", Library(CONFIGS), "tests").values()
    method = method_of(settings)
    widths = Channels([4] * 5, [], (4, 8, 16, 32, 64))
    layers = method.adapters(widths, widths)
    windows = [layer.pool for name, layer in sorted(layers.items()) if "student" in name]
    assert tuple(64 // 2**level // window for level, window in enumerate(windows)) == sides


def test_a_window_is_no_larger_than_the_map_and_one_value_is_normalized():
    block = NonLocalBlock(6, 3, 8)
    nn.init.ones_(block.norm.weight)
    maps = torch.randn(1, 6, 1, 1, requires_grad=True)
    block(maps).sum().backward()
    assert maps.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    student, teacher = (torch.randn(2, 3, 2, 3, dtype=torch.double) for _ in range(2))
    student.requires_grad_()
    mask = torch.rand(2, 1, 2, 3, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: distance(x, teacher, mask), student)
    assert torch.autograd.gradcheck(lambda x: distance(x, teacher), student)
    assert torch.autograd.gradcheck(lambda x: attention_mask(x.abs(), teacher, 0.5, False), student)
    assert torch.autograd.gradcheck(lambda x: attention_mask(x.abs(), teacher, 0.5, True), student)
    block = NonLocalBlock(3, 2, 2).double()
    nn.init.normal_(block.norm.weight)
    assert torch.autograd.gradcheck(block, student)
    assert torch.autograd.gradcheck(ZeroBatchNorm(3).double(), student)


# --- Whole losses --------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_equal_maps_through_equal_layers_cost_next_to_nothing(form):
    student, _ = models()
    layers = nn.ModuleDict()
    for level in range(4):
        torch.manual_seed(level)
        layers[f"student{level}"] = NonLocalBlock(6, 2, 2, residual=form == "code")
        layers[f"teacher{level}"] = layers[f"student{level}"]
    loss = total(losses((student, student), layers, **ONE, form=form))
    assert loss.item() < 1e-4
    loss.backward()
    assert all(level.grad.isfinite().all() for level in student.neck)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_reach_the_student_and_every_layer_but_not_the_teacher(form):
    pair = models()
    layers = learned(pair, **ONE, form=form)
    total(losses(pair, layers, **ONE, form=form)).backward()
    assert all(level.grad.ne(0).any() for level in pair[0].neck)
    assert all(level.grad is None for level in pair[1].neck)
    assert len(layers) == 4 * (6 if form == "code" else 2)
    assert all(parameter.grad is not None for parameter in layers.parameters())
    assert all(layers[f"teacher{level}"].out.bias.grad is not None for level in range(4))


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_twice_costs_its_root(form):
    pair = models(images=2)
    twice = [view([level.repeat(2, 1, 1, 1) for level in m.neck]) for m in pair]
    alone, double = (total(losses(models_pair, **ONE, form=form)) for models_pair in (pair, twice))
    torch.testing.assert_close(double, math.sqrt(2) * alone)


def test_the_order_of_images_does_not_matter():
    pair = models()
    turned = [view([level.flip(0) for level in m.neck]) for m in pair]
    torch.testing.assert_close(total(losses(pair, **ONE)), total(losses(turned, **ONE)))


def test_weights_multiply_their_terms():
    pair, weights = models(), {"transfer_weight": 2, "feature_weight": 3, "nonlocal_weight": 5}
    plain, weighted = (losses(pair, **settings) for settings in (ONE, weights))
    for name, factor in zip(
        ("channel", "spatial", "feature", "nonlocal"), (2, 2, 3, 5), strict=True
    ):
        for before, after in zip(
            plain.pop(f"loss_fkd_{name}"), weighted[f"loss_fkd_{name}"], strict=True
        ):
            torch.testing.assert_close(after, factor * before)
    assert not plain


@pytest.mark.parametrize("form", FORMS)
def test_a_narrow_student_is_widened_first(form):
    pair = models(channels=4, wide=6)
    layers = learned(pair, **ONE, form=form)
    terms = losses(pair, layers, **ONE, form=form)
    total(terms).backward()
    assert layers["align0"].weight.grad.ne(0).any()
    widened = view([layers[f"align{i}"](level) for i, level in enumerate(pair[0].neck)]), pair[1]
    same = nn.ModuleDict({k: v for k, v in layers.items() if not k.startswith("align")})
    torch.testing.assert_close(terms, losses(widened, same, **ONE, form=form))


def test_blocks_go_by_the_order_of_strides():
    """YOLOv3's levels are ordered coarsest first."""
    layers = FeatureDistillation().adapters(
        Channels([32, 16, 8], [], (32, 16, 8)), Channels([32, 16, 8], [], (32, 16, 8))
    )
    inner = {name: layer.theta.out_channels for name, layer in layers.items() if "student" in name}
    assert inner == {"student2": 2, "student1": 4, "student0": 16}
    assert [layers[f"student{level}"].pool for level in (2, 1, 0)] == [8, 4, 2]


def test_only_the_finest_levels_on_request():
    pair = (
        view(models()[0].neck[::-1], [64, 32, 16, 8]),
        view(models()[1].neck[::-1], [64, 32, 16, 8]),
    )
    layers = learned(pair, **ONE, levels=2)
    assert {name[-1] for name in layers} == {"3", "2"}
    terms = losses(pair, layers, **ONE, levels=2)
    assert len(terms["loss_fkd_feature"]) == 2
    total(terms).backward()
    assert [level.grad is not None for level in pair[0].neck] == [False, False, True, True]


@pytest.mark.parametrize("kind", ["one_stage", "two_stage"])
@pytest.mark.parametrize("form", FORMS)
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(
    distil_random_maps, form, kind
):
    """At a temperature that the rounding of a mean of magnitude 100 is small to."""
    method = FeatureDistillation(form=form, kind=kind, temperature=100)
    full, rounded = distil_random_maps(method, channels=24)
    torch.testing.assert_close(rounded, full, rtol=0.01, atol=0)


# --- Settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "detector", "numbers"),
    [
        ("code", "faster_rcnn", (4e-3, 7e-5, 7e-5, 0.5, False)),
        ("code", "retinanet", (2.4e-2, 4.2e-4, 4.2e-4, 0.1, True)),
        ("paper", "faster_rcnn", (7e-5, 4e-3, 7e-5, 0.1, True)),
        ("paper", "retinanet", (4e-4, 2e-2, 4e-4, 0.5, True)),
    ],
)
def test_the_composed_settings_show_the_numbers_of_form_and_kind(form, detector, numbers):
    overrides = {"fkd": {"form": form, "temperature": None}}
    (settings,) = resolve("fkd", overrides, detector, Library(CONFIGS), "tests").values()
    assert tuple(settings[name] for name in DEPENDENT_SETTINGS) == numbers


@pytest.mark.parametrize(
    ("preset", "terms"),
    [
        ("fkd", {"channel", "spatial", "feature", "nonlocal"}),
        ("fkd_paper", {"channel", "spatial", "feature", "nonlocal"}),
        ("fkd_mmrazor", {"channel", "spatial", "feature", "nonlocal"}),
        ("fkd_attention", {"channel", "spatial", "feature"}),
        ("fkd_at", {"channel", "spatial"}),
        ("fkd_am", {"feature"}),
        ("fkd_nonlocal", {"nonlocal"}),
    ],
)
def test_presets_compute_their_terms_with_no_layer_to_spare(preset, terms):
    (settings,) = resolve(preset, {}, "faster_rcnn", Library(CONFIGS), "tests").values()
    settings = method_of(settings).model_dump()
    pair = models()
    layers = learned(pair, **settings)
    computed = losses(pair, layers, **settings)
    assert computed.keys() == {f"loss_fkd_{name}" for name in terms}
    total(computed).backward()
    assert all(parameter.grad is not None for parameter in layers.parameters())


def test_focus_is_the_spatial_mask_of_each_level():
    student, teacher = models()
    focus = FeatureDistillation().focus(student, teacher, None)
    assert [tuple(mask.shape) for mask in focus.maps.values()] == SIZES
    assert all(mask.mean().item() == pytest.approx(1) for mask in focus.maps.values())
