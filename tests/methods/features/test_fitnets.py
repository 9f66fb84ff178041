"""FitNets: values by hand, regions, forms and properties."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.terms import method_of, resolve
from kd.methods.features.fitnets import FitNets, normalized_distance, positive_cells
from kd.methods.ops.masks import center_masks
from kd.observers import Channels
from tests.methods.scenes import SIZES, batch_of, maps, total, view
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

REGIONS = ["whole", "positive", "negative", "object"]
ANCHORS = 2
COUNTS = [ANCHORS * height * width for height, width in SIZES]
OBJECTS = batch_of([[0, 0, 17, 9], [0, 0, 96, 64]], [])
"""On the finer level: an object of 2 x 1 cells under one of all; the second image has none."""


def priors_of(positive: list[tuple[int, int]]) -> dict[str, object]:
    """Return an assignment of two images with the positive (image, prior) pairs."""
    assignment = torch.full((2, sum(COUNTS)), -1)
    for image, prior in positive:
        assignment[image, prior] = 0
    return {"assignment": assignment, "level_priors": [torch.zeros(n, 4) for n in COUNTS]}


@pytest.fixture
def models() -> tuple[SimpleNamespace, SimpleNamespace]:
    """Return student and teacher: two positive priors of cell (0, 1), one of the coarser level."""
    positive = priors_of([(0, 2), (0, 3), (1, COUNTS[0] + 5)])
    return view(maps(0), gradients=True, **positive), view(maps(1))


def losses(models: tuple, batch: object = OBJECTS, adapters: object = (), **settings: object):
    terms = FitNets(**settings).losses(*models, batch, adapters)
    assert set(terms) == {"loss_fitnets"}
    return terms["loss_fitnets"]


# --- Values ----------------------------------------------------------------------------------


def test_whole_map_by_hand():
    """Differences (3, 4) and (0, 0) over two channels and two cells: 25 / 4; the next level 1."""
    student = view([torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 1)])
    teacher = view([torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]]), torch.ones(1, 2, 1, 1)])
    terms = losses((student, teacher), weight=2)
    assert [term.item() for term in terms] == pytest.approx([25 / 4, 1.0])


def test_a_region_by_hand():
    """The cell of the positive prior has the squared difference 25 over 2 channels."""
    neck = [torch.zeros(1, 2, 1, 2)]
    priors = {"assignment": torch.tensor([[0, -1]]), "level_priors": [torch.zeros(2, 4)]}
    student = SimpleNamespace(neck=neck, strides=[8], **priors)
    teacher = SimpleNamespace(neck=[torch.tensor([[[[3.0, 1.0]], [[4.0, 1.0]]]])], strides=[8])
    (positive,) = losses((student, teacher), region="positive")
    (negative,) = losses((student, teacher), region="negative")
    (of_map,) = losses((student, teacher), region="positive", divisor="map")
    assert [positive.item(), negative.item(), of_map.item()] == pytest.approx([12.5, 1.0, 6.25])


def test_united_perceptions_form_by_hand():
    """(3, 4) / 5 and (1, 0): (0.6 - 1)^2 + 0.8^2 = 0.8; the other image agrees in direction."""
    student = torch.tensor([[3.0, 4.0], [1.0, 1.0]])[:, :, None, None]
    teacher = torch.tensor([[2.0, 0.0], [7.0, 7.0]])[:, :, None, None]
    assert normalized_distance(student, teacher).item() == pytest.approx(0.8 / 2)


def test_the_mean_of_all_cells_channels_images_and_levels(models):
    expected = [(s - t).square().mean() / 2 for s, t in zip(*[m.neck for m in models], strict=True)]
    torch.testing.assert_close(losses(models), expected)


def test_cells_with_a_positive_prior_of_any_anchor():
    student = SimpleNamespace(**priors_of([(0, 3), (1, 0), (1, COUNTS[0] + 2 * ANCHORS)]))
    cells = positive_cells(student.assignment, COUNTS, SIZES)
    assert [level.shape for level in cells] == [(2, *size) for size in SIZES]
    fine_cells = [tuple(row) for row in torch.nonzero(cells[0]).tolist()]
    assert fine_cells == [(0, 0, 1), (1, 0, 0)]  # two anchors a cell
    assert torch.nonzero(cells[1]).tolist() == [[1, 0, 2]]


# --- Properties ------------------------------------------------------------------------------


@pytest.mark.parametrize("region", REGIONS)
def test_equal_maps_cost_nothing(models, region):
    student, _ = models
    teacher = view([level.detach().clone() for level in student.neck])
    assert total({"": losses((student, teacher), region=region)}).item() == 0


def gradient_cells(models: tuple, **settings: object) -> list[Tensor]:
    """Return the cells (B, H, W) of each level with a gradient; the teacher must have none."""
    teacher = models[1]
    for level in teacher.neck:
        level.requires_grad_()
    total({"": losses(models, **settings)}).backward()
    assert all(level.grad is None for level in teacher.neck)
    return [level.grad.ne(0).all(1) for level in models[0].neck]


@pytest.mark.parametrize("form", ["mse", "normalised"])
def test_whole_maps_give_every_element_a_gradient(models, form):
    assert all(level.all() for level in gradient_cells(models, form=form))


def test_positive_and_negative_cells_share_the_map(models):
    positive = gradient_cells(models, region="positive")
    for level in models[0].neck:
        level.grad = None
    negative = gradient_cells(models, region="negative")
    assert [int(level.sum()) for level in positive] == [1, 1]
    assert all((one ^ other).all() for one, other in zip(positive, negative, strict=True))


def test_objects_reach_the_cells_of_their_level_alone(models):
    batch = batch_of([[0, 0, 17, 9]], [])
    fine, coarse = gradient_cells(models, region="object", batch=batch)
    assert torch.nonzero(fine).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert not coarse.any()


def anchors_of_gfl(height: int, width: int) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Return one square anchor per cell of strides 8 to 128, centered at the cell's corner."""
    strides = [8, 16, 32, 64, 128]
    sizes = [(-(-height // stride), -(-width // stride)) for stride in strides]
    levels = []
    for stride, (rows, columns) in zip(strides, sizes, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        center = torch.stack([x, y], -1).reshape(-1, 2) * stride
        levels.append(torch.cat([center - 4 * stride, center + 4 * stride], 1).float())
    return levels, sizes


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ([0, 0, 64, 64], [49, 9, 1, 0, 0]),
        ([0, 0, 65, 65], [64, 16, 4, 1, 0]),
        ([9, 9, 15, 15], [0, 0, 0, 0, 0]),
    ],
)
def test_centers_strictly_inside_an_object_on_every_level(box, cells):
    """The first count is LD's on 256 x 192 pixels; a center on the border is outside."""
    priors, sizes = anchors_of_gfl(192, 256)
    masks = center_masks(batch_of([box]), priors, sizes)
    assert [int(mask.sum()) for mask in masks] == cells


def test_the_preset_of_ld_takes_centers_on_levels_with_a_positive_prior():
    (settings,) = resolve("fitnets_object_ld", {}, "gfl", Library(CONFIGS), "tests").values()
    priors, sizes = anchors_of_gfl(192, 256)
    assignment = torch.full((1, sum(map(len, priors))), -1)
    assignment[0, len(priors[0])] = 0  # a prior of the second level
    neck = [torch.ones(1, 2, *size, requires_grad=True) for size in sizes]
    strides = [8, 16, 32, 64, 128]
    student = SimpleNamespace(
        neck=neck, strides=strides, level_priors=priors, assignment=assignment
    )
    teacher = SimpleNamespace(neck=[torch.zeros_like(level) for level in neck], strides=strides)
    losses_of_preset = method_of(settings).losses(student, teacher, batch_of([[0, 0, 64, 64]]), ())
    assert [term.item() for term in losses_of_preset["loss_fitnets"]] == [0, 2, 0, 0, 0]
    total(losses_of_preset).backward()
    assert [int(level.grad.ne(0).any(1).sum()) for level in neck] == [0, 9, 0, 0, 0]


def test_levels_with_a_positive_prior_need_an_assignment():
    assert FitNets(levels="positive").needs.student == {"priors"}
    assert FitNets(region="center").needs.student == frozenset()


def test_an_object_smaller_than_a_cell_has_one(models):
    fine, _ = gradient_cells(models, region="object", batch=batch_of([[10, 10, 12, 12]], []))
    assert torch.nonzero(fine).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("region", ["positive", "object"])
@pytest.mark.parametrize("divisor", ["region", "map"])
def test_without_objects_the_term_is_zero_and_attached(models, region, divisor):
    student, _ = models
    vars(student).update(priors_of([]))
    loss = total({"": losses(models, region=region, batch=batch_of([], []), divisor=divisor)})
    loss.backward()
    assert loss.item() == 0
    assert all(level.grad.eq(0).all() for level in student.neck)


@pytest.mark.parametrize("form", ["mse", "normalised"])
def test_scaling_both_maps(models, form):
    scaled = [view([3 * level.detach() for level in model.neck]) for model in models]
    factor = 9 if form == "mse" else 1
    scaled_terms, terms = (torch.stack(losses(pair, form=form)) for pair in (scaled, models))
    torch.testing.assert_close(scaled_terms, factor * terms)


@pytest.mark.parametrize("form", ["mse", "normalised"])
def test_images_in_another_order_change_nothing(models, form):
    flipped = [view([level.detach().flip(0) for level in model.neck]) for model in models]
    torch.testing.assert_close(losses(flipped, form=form), losses(models, form=form))


def test_a_map_of_zeros_has_a_finite_normalized_distance():
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    loss = normalized_distance(student, torch.ones(1, 2, 2, 2))
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert student.grad.isfinite().all()


def test_gradcheck_of_united_perceptions_form():
    student, teacher = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: normalized_distance(s, teacher), student)


# --- Adaptation, needs and settings -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "1x1", "3x3", "3x3_relu"])
@pytest.mark.parametrize("region", REGIONS)
def test_adapters_always_get_a_gradient(models, kind, region):
    student, _ = models
    vars(student).update(priors_of([]))
    channels = Channels([5, 5], [], (8, 16)), Channels([5, 7], [], (8, 16))
    layers = nn.ModuleDict(FitNets(adaptation=kind).adapters(*channels))
    assert len(layers) == (1 if kind == "none" else 2)
    teacher = view([maps(1, 5)[0], maps(1, 7)[1]])
    batch = batch_of([], [])
    total({"": losses((student, teacher), batch, layers, region=region)}).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layers.parameters())


@pytest.mark.parametrize("region", REGIONS)
def test_levels_of_another_pyramid_are_compared_by_stride(models, region):
    """A teacher of strides 4, 8 and 16 gives the terms of its last two levels."""
    student, teacher = models
    finer = SimpleNamespace(neck=[torch.randn(2, 5, 16, 24), *teacher.neck], strides=[4, 8, 16])
    torch.testing.assert_close(
        losses((student, finer), region=region), losses(models, region=region)
    )
    finest = SimpleNamespace(neck=[torch.randn(2, 5, 16, 24), teacher.neck[0]], strides=[4, 8])
    (term,) = losses((student, finest), region=region)
    torch.testing.assert_close(term, 2 * losses(models, region=region)[0])
    focus_maps = FitNets(region=region).focus(student, finest, OBJECTS).maps
    assert [*focus_maps] == ["stride 8"]


def test_a_level_without_a_partner_has_no_layer_and_no_positive_prior(models):
    student, _ = models
    channels = Channels([5, 5], [], (8, 16)), Channels([7, 7], [], (4, 16))
    layers = nn.ModuleDict(FitNets().adapters(*channels))
    assert [*layers] == ["level1"]
    coarse = SimpleNamespace(neck=[torch.randn(2, 7, 16, 24), maps(1, 7)[1]], strides=[4, 16])
    vars(student).update(priors_of([(0, 2)]))  # a positive prior of the finer level alone
    (term,) = losses((student, coarse), adapters=layers, levels="positive")
    assert term.item() == 0


def test_a_wide_adaptation_starts_small():
    channels = Channels([5], [], (8,))
    layer = FitNets(adaptation="3x3").adapters(channels, channels)["level0"]
    assert layer.weight.abs().max() < 2e-4
    assert layer.weight.std() > 2e-5
    assert layer.kernel_size == (3, 3) and layer.padding == (1, 1)


def test_whole_maps_need_no_more_than_the_neck():
    assert FitNets().needs.student == FitNets(region="object").needs.student == frozenset()
    assert FitNets(region="negative").needs.student == {"priors"}
    assert FitNets().needs.both == {"neck"}


def test_the_normalized_form_of_a_region_is_refused():
    with pytest.raises(UserError, match="form 'normalised' compares whole maps"):
        FitNets.parse({"form": "normalised", "region": "object"}, "here")


@pytest.mark.parametrize("settings", [{}, {"region": "positive"}, {"form": "normalised"}])
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps, settings):
    for channels in (16, 24):
        full, rounded = distil_random_maps(FitNets(**settings), channels)
        for rounded_term, full_term in zip(
            rounded["loss_fitnets"], full["loss_fitnets"], strict=True
        ):
            assert rounded_term.dtype == torch.float32
            torch.testing.assert_close(rounded_term, full_term, rtol=0.01, atol=0)
    assert total(full) > 0


def test_focus_maps_are_the_regions_by_level(models):
    focus_maps = FitNets(region="object").focus(*models, OBJECTS).maps
    assert {name: tuple(focus_map.shape) for name, focus_map in focus_maps.items()} == {
        "stride 8": (8, 12),
        "stride 16": (4, 6),
    }
    assert focus_maps["stride 8"].sum() == 8 * 12
