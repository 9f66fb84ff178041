"""FGFI: the mask of cells near objects, the loss on it, and variants."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.terms import method_of, resolve
from kd.methods.features.fgfi import FineGrainedImitation, near_anchors
from kd.observers import Channels, DenseObservation, Progress
from tests.methods.scenes import SIZES, STRIDES, batch_of, maps, total, view
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

VARIANTS = ["fgfi", "fgfi_defeat", "fgfi_ld"]
CHANNELS = 5


def variant(name: str, **changes: object) -> FineGrainedImitation:
    (settings,) = resolve(name, {name: changes}, "retinanet", Library(CONFIGS), "tests").values()
    method = method_of(settings)
    assert isinstance(method, FineGrainedImitation)
    return method


def square_anchors() -> list[Tensor]:
    """Return two anchors per cell of each level: squares of one and two strides at its center."""
    levels = []
    for stride, (height, width) in zip(STRIDES, SIZES, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        center = (torch.stack([x, y], -1).reshape(-1, 1, 2) + 0.5) * stride
        half = torch.tensor([0.5, 1.0])[:, None] * stride
        levels.append(torch.cat([center - half, center + half], 2).reshape(-1, 4))
    return levels


OBJECT = batch_of([[24, 16, 40, 32]], [])
"""An object of 16 pixels, whose center is a corner of the finer level's anchors."""
EQUAL = batch_of([[16, 16, 32, 32]], [])
"""An object equal to the coarser level's first anchor of the cell (1, 1)."""


@pytest.fixture
def models() -> tuple[SimpleNamespace, SimpleNamespace]:
    anchors = square_anchors()
    assignment = torch.zeros(2, sum(map(len, anchors)), dtype=torch.long)
    student = view(maps(0), gradients=True, level_priors=anchors, assignment=assignment)
    return student, view(maps(1))


def losses(models: tuple, batch: object, method: object = None, adapters: object = ()) -> dict:
    method = method or variant("fgfi", adaptation="none", weight=1)
    terms = method.losses(*models, batch, adapters)
    assert set(terms) == {"loss_fgfi"}
    return terms


def masks(models: tuple, batch: object, **settings: object) -> list[Tensor]:
    return FineGrainedImitation(**settings)._masks(models[0], batch)


def counts(models: tuple, batch: object, **settings: object) -> list[int]:
    return [int(mask.sum()) for mask in masks(models, batch, **settings)]


# --- The mask ----------------------------------------------------------------------------------


def test_near_anchors_by_hand():
    """The IoUs with the object are 1, 1/2, 1/3 and 0; the first alone exceeds 0.5 x 1."""
    box = torch.tensor([[0.0, 0, 2, 2]])
    anchors = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1], [1, 0, 3, 2], [5, 5, 6, 6]])
    near = {psi: near_anchors(anchors, box, psi)[:, 0].tolist() for psi in (0.5, 0.4, 0.2, 0)}
    assert near[0.5] == [True, False, False, False]
    assert near[0.4] == [True, True, False, False]
    assert near[0.2] == near[0] == [True, True, True, False]


def test_relative_to_the_best_anchor_of_each_object():
    """The best IoU with the small box is 1/4, so anchors of 1/8 upwards are near it."""
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2]])
    anchors = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 7]])
    assert near_anchors(anchors, boxes, 0.5).tolist() == [[True, True], [True, False]]


def test_cells_of_an_object_by_hand(models):
    """The best anchor of all levels has IoU 1, and those of the finer level at most 0.39.

    It is on the coarser level. Anchors of 16 pixels on the finer level lie 4 pixels off in x and y,
    so their IoU is 12^2 / (2 x 16^2 - 12^2) = 0.39.
    """
    fine, coarse = masks(models, EQUAL)
    assert not fine.any()
    assert torch.nonzero(coarse).tolist() == [[0, 1, 1]]
    fine, _ = masks(models, EQUAL, psi=0.38)
    assert torch.nonzero(fine).tolist() == [[0, y, x] for y in (2, 3) for x in (2, 3)]


def test_an_object_assigned_to_one_level_is_compared_there(models):
    """An object of 16 pixels belongs to the finer level, whose best IoU is 0.39."""
    fine, coarse = masks(models, EQUAL, match="assigned")
    assert {(0, y, x) for y in (2, 3) for x in (2, 3)} <= set(map(tuple, fine.nonzero().tolist()))
    assert not coarse.any()
    large = batch_of([[0, 0, 96, 64], [0, 0, 120, 120]], [])
    fine, coarse = masks(models, large, match="assigned")
    assert fine.any() and coarse.any()  # 96 x 64 and, above 112, 120 x 120


def test_levels_may_come_in_any_order(models):
    student, _ = models
    usual = masks(models, OBJECT, match="assigned")
    reordered = SimpleNamespace(
        neck=student.neck[::-1], strides=STRIDES[::-1], level_priors=student.level_priors[::-1]
    )
    reordered_masks = masks((reordered, None), OBJECT, match="assigned")
    assert all(torch.equal(*pair) for pair in zip(reordered_masks[::-1], usual, strict=True))


@pytest.mark.parametrize("match", ["all", "assigned"])
def test_a_higher_psi_only_shrinks_the_mask(models, match):
    masks_by_psi = [masks(models, OBJECT, psi=psi, match=match) for psi in (0, 0.3, 0.5, 0.9, 1)]
    for wide, narrow in pairwise(masks_by_psi):
        assert all((w >= n).all() for w, n in zip(wide, narrow, strict=True))
    sums = [sum(int(level.sum()) for level in levels) for levels in masks_by_psi]
    assert sums[0] > sums[2] >= sums[3] > 0 == sums[4]  # the inequality is strict


def test_at_zero_every_cell_that_meets_the_object(models):
    """The finer level's anchors of 16 pixels meet it on the 2 x 2 cells inside and one around."""
    fine, _ = masks(models, EQUAL, psi=0)
    assert torch.nonzero(fine).tolist() == [[0, y, x] for y in range(1, 5) for x in range(1, 5)]


@pytest.mark.parametrize("match", ["all", "assigned"])
def test_every_object_has_a_cell_even_one_smaller_than_a_cell(models, match):
    for box in ([33, 17, 34, 18], [0, 0, 1, 1], [80, 48, 96, 64]):
        assert sum(counts(models, batch_of([box], []), match=match)) > 0


def test_objects_are_united_and_images_kept_apart(models):
    other = [60, 40, 76, 60]
    one, two = masks(models, OBJECT), masks(models, batch_of([other], []))
    both = masks(models, batch_of([[24, 16, 40, 32], other], [other]))
    for level, mask in enumerate(both):
        assert torch.equal(mask[0], torch.maximum(one[level][0], two[level][0]))
        assert torch.equal(mask[1], two[level][0])


# --- The loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("divisor", "expected"), [("cells", 2.0), ("elements", 2.0)])
def test_golden_value_of_one_cell(models, divisor, expected):
    """One masked cell of one channel differs by 2: 4 / (2 x 1), and 0 on the other level."""
    student = view([torch.zeros(2, 1, *size) for size in SIZES], level_priors=square_anchors())
    teacher = view([torch.full((2, 1, *size), 2.0) for size in SIZES])
    method = variant("fgfi", adaptation="none", weight=1, divisor=divisor)
    fine, coarse = losses((student, teacher), EQUAL, method)["loss_fgfi"]
    assert fine.item() == 0
    assert coarse.item() == pytest.approx(expected / len(SIZES))


def test_divisors_differ_by_the_number_of_channels(models):
    cells, elements = (
        total(losses(models, OBJECT, variant("fgfi", adaptation="none", divisor=divisor)))
        for divisor in ("cells", "elements")
    )
    torch.testing.assert_close(cells, CHANNELS * elements)
    assert elements > 0


def test_the_sum_over_the_mask_of_the_whole_batch(models):
    """Two images with masks of different sizes have one divisor."""
    batch = batch_of([[24, 16, 40, 32]], [[0, 0, 60, 60]])
    for level, mask in enumerate(masks(models, batch)):
        squares = [
            (mask[i] * (models[0].neck[level][i] - models[1].neck[level][i]).square()).sum()
            for i in range(2)
        ]
        expected = sum(squares) / (2 * mask.sum()) / 2
        torch.testing.assert_close(losses(models, batch)["loss_fgfi"][level], expected)


def test_gradients_stay_inside_the_mask(models):
    total(losses(models, OBJECT)).backward()
    for level, mask in enumerate(masks(models, OBJECT)):
        assert torch.equal(models[0].neck[level].grad.ne(0).all(1), mask.bool())
    assert all(level.grad is None for level in models[1].neck)


def test_other_pixels_do_not_matter(models):
    before = total(losses(models, OBJECT))
    for level, mask in enumerate(masks(models, OBJECT)):
        models[1].neck[level] += 7 * (1 - mask)[:, None]
    torch.testing.assert_close(total(losses(models, OBJECT)), before)


def test_equal_maps_cost_nothing(models):
    teacher = view([level.detach().clone() for level in models[0].neck])
    assert total(losses((models[0], teacher), OBJECT)).item() == 0


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("when", ["no objects", "warm-up", "ordinary"])
def test_adapters_get_a_gradient_and_nothing_is_nan(models, name, when):
    method = variant(name, warmup_steps=400)
    channels = Channels([CHANNELS] * 2, []), Channels([CHANNELS + 2] * 2, [])
    layers = nn.ModuleDict(method.adapters(*channels))
    teacher = view(maps(1, CHANNELS + 2))
    batch = batch_of([], []) if when == "no objects" else OBJECT
    if when == "warm-up":
        object.__setattr__(batch_ := batch_of([[24, 16, 40, 32]], []), "progress", Progress(399))
        models[0].neck[0] = models[0].neck[0].detach().fill_(torch.inf).requires_grad_()
        batch = batch_
    loss = total(losses((models[0], teacher), batch, method, layers))
    loss.backward()
    assert loss.isfinite() and (loss > 0) == (when == "ordinary")
    for parameter in layers.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.eq(0).all() or when == "ordinary"


@pytest.mark.parametrize(("step", "on"), [(0, False), (399, False), (400, True)])
def test_warm_up_ends_after_its_steps(models, step, on):
    batch = batch_of([[24, 16, 40, 32]], [])
    object.__setattr__(batch, "progress", Progress(step))
    method = variant("fgfi", adaptation="none")
    assert (total(losses(models, batch, method)) > 0).item() == on


@pytest.mark.parametrize(
    ("steps", "begin"), [(450, 23), (1500, 75), (12_413, 400), (88_716, 400), (0, 400)]
)
def test_warm_up_takes_at_most_a_twentieth_of_a_training(models, steps, begin):
    """The papers' schedules, of 12,413 steps and more, have the 400 steps of the official code."""
    batch, method = batch_of([[24, 16, 40, 32]], []), variant("fgfi", adaptation="none")
    for step, on in ((begin - 1, False), (begin, True)):
        progress = Progress(step, steps=steps)
        object.__setattr__(batch, "progress", progress)
        assert (total(losses(models, batch, method)) > 0).item() == on
        assert bool(method.reads(progress)) == on


def test_official_and_ported_settings():
    official, defeat, ld = map(variant, VARIANTS)
    assert (official.weight, official.divisor, official.warmup_steps) == (0.01, "cells", 400)
    assert (official.adaptation, official.match, official.psi) == ("3x3_relu", "all", 0.5)
    assert (defeat.weight, defeat.divisor, defeat.warmup_steps) == (3, "elements", 0)
    assert (defeat.adaptation, defeat.match, defeat.psi) == ("3x3", "assigned", 0.5)
    assert (ld.adaptation, ld.match, ld.divisor) == ("none", "all", "elements")


def test_the_port_of_ld_is_twice_the_sum_over_levels_of_the_mean_square(models):
    """The factor 2 is that of five levels; with the two here it is 20 / 2 / 2 = 5."""
    batch = batch_of([[24, 16, 40, 32], [0, 0, 60, 60]], [])
    loss = total(losses(models, batch, variant("fgfi_ld")))
    expected = 0.0
    for level, mask in enumerate(masks(models, batch)):
        pairs = [model.neck[level].permute(0, 2, 3, 1)[mask.bool()] for model in models]
        expected += nn.functional.mse_loss(*pairs) if len(pairs[0]) else 0
    torch.testing.assert_close(loss, 5 * expected)


def test_the_port_of_ld_has_no_term_on_a_level_without_a_positive_prior(models):
    models[0].assignment[:, : len(models[0].level_priors[0])] = -1
    batch = batch_of([[24, 16, 40, 32], [0, 0, 60, 60]], [])
    fine, coarse = losses(models, batch, variant("fgfi_ld"))["loss_fgfi"]
    assert fine.item() == 0 and coarse.item() > 0
    assert FineGrainedImitation(levels="positive").needs.student == {"anchors", "priors"}


@pytest.mark.parametrize("psi", [-0.1, 1.1])
def test_psi_is_a_fraction(psi):
    with pytest.raises(UserError, match="psi"):
        FineGrainedImitation.parse({"psi": psi}, "here")


# --- Real detectors -----------------------------------------------------------------------------


def test_masks_of_a_detectors_own_anchors(build, batch):
    data = batch()
    observation = DenseObservation(build(), data, frozen=True)
    level_masks = FineGrainedImitation()._masks(observation, data)
    assert [mask.shape[1:] for mask in level_masks] == [
        level.shape[2:] for level in observation.neck
    ]
    assert all((mask == 0).logical_or(mask == 1).all() for mask in level_masks)
    assert all(torch.stack([m[i].sum() for m in level_masks]).sum() > 0 for i in range(2))


@pytest.mark.parametrize("name", VARIANTS)
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps, name):
    full, rounded = distil_random_maps(variant(name, warmup_steps=0), channels=24)
    rounded_loss, full_loss = total(rounded), total(full)
    assert rounded_loss.dtype == torch.float32 and full_loss > 0
    torch.testing.assert_close(rounded_loss, full_loss, rtol=0.01, atol=0)
