"""PKD: values by hand, properties, degenerate channels and pairs of pyramids."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kd.methods.features.pkd import PearsonCorrelation
from kd.methods.ops.standardization import batch_normalized, correlation_distance
from kd.observers import Channels
from tests.methods.scenes import batch_of, maps, total, view

torch.set_num_threads(1)

EMPTY = batch_of([], [])


def losses(student: object, teacher: object, adapters: object = (), **settings: object) -> list:
    terms = PearsonCorrelation(**settings).losses(student, teacher, EMPTY, adapters)
    assert set(terms) == {"loss_pkd"}
    return terms["loss_pkd"]


def standardized(maps: Tensor) -> Tensor:
    """Return maps (B, C, H, W) whose channels have mean 0 and deviation 1."""
    channels = maps.transpose(0, 1).flatten(1)
    channels = (channels - channels.mean(1, keepdim=True)) / (channels.std(1, keepdim=True) + 1e-6)
    return channels.view(maps.shape[1], len(maps), *maps.shape[2:]).transpose(0, 1)


def pyramid(seed: int, strides: list[int], channels: int = 5) -> SimpleNamespace:
    """Return an observation of random maps of 64 x 96 pixels with these strides."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, channels, -(-64 // stride), -(-96 // stride)) for stride in strides]
    neck = [torch.randn(shape, generator=generator) for shape in shapes]
    return SimpleNamespace(neck=neck, strides=strides)


# --- Values ----------------------------------------------------------------------------------


def test_two_cells_by_hand():
    """(0, 1) is -1 / sqrt 2 and 1 / sqrt 2: opposite maps differ by sqrt 2, so that half is 1."""
    first, second = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[5.0, 2.0]]]])
    assert correlation_distance(first, second).item() == pytest.approx(1, rel=1e-5)
    assert correlation_distance(first, first).item() == 0


def test_half_of_the_mean_squared_difference_of_standardized_maps():
    student, teacher = maps(0)[0], maps(1)[0]
    expected = (standardized(student) - standardized(teacher)).square().mean() / 2
    torch.testing.assert_close(correlation_distance(student, teacher), expected)


def test_one_minus_the_correlation_of_channels():
    student, teacher = (maps(seed, dtype=torch.float64)[0] for seed in (0, 1))
    rows = [level.transpose(0, 1).flatten(1) for level in (student, teacher)]
    correlations = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*rows, strict=True)]
    values = rows[0].shape[1]
    expected = (1 - torch.stack(correlations)).mean() * (values - 1) / values
    torch.testing.assert_close(correlation_distance(student, teacher), expected, rtol=1e-5, atol=0)


def test_a_term_for_each_level_times_the_weight():
    student, teacher = view(maps(0)), view(maps(1))
    expected = [
        6 * correlation_distance(*pair) for pair in zip(student.neck, teacher.neck, strict=True)
    ]
    torch.testing.assert_close(losses(student, teacher, weight=6), expected)


def test_batch_normalized_maps_equal_those_of_torch():
    neck_map = 7 + 3 * maps(0)[0]
    expected = torch.nn.functional.batch_norm(neck_map, None, None, training=True)
    torch.testing.assert_close(batch_normalized(neck_map), expected, rtol=1e-4, atol=1e-5)


# --- Properties ------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_scale_and_offset_of_a_channel_change_nothing(scale):
    student, teacher = (maps(seed, dtype=torch.float64)[0] for seed in (0, 1))
    factors = torch.tensor([1.0, 2.0, 5.0, 0.5, 3.0], dtype=torch.float64).view(1, 5, 1, 1)
    moved = scale * factors * student + 10 * factors
    expected = correlation_distance(student, teacher)
    torch.testing.assert_close(correlation_distance(moved, teacher), expected, rtol=1e-2, atol=0)
    torch.testing.assert_close(correlation_distance(teacher, moved), expected, rtol=1e-2, atol=0)


def test_a_negated_map_is_farthest():
    student = maps(0)[0]
    assert correlation_distance(student, -student).item() == pytest.approx(2, rel=0.01)


def test_statistics_cover_all_images():
    """Two images of different brightness: their difference is information, not an offset."""
    student = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    bright = student + torch.tensor([0.0, 10.0]).view(2, 1, 1, 1)
    by_image = [correlation_distance(student[i : i + 1], bright[i : i + 1]) for i in (0, 1)]
    assert max(by_image).item() == pytest.approx(0, abs=1e-5)
    assert correlation_distance(student, bright).item() > 0.1


def test_gradcheck():
    student, teacher = torch.randn(2, 2, 3, 2, 4, dtype=torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: correlation_distance(s, teacher), student)
    assert torch.autograd.gradcheck(batch_normalized, student)


def test_the_teacher_has_no_gradient():
    student, teacher = view(maps(0), gradients=True), view(maps(1), gradients=True)
    total({"": losses(student, teacher)}).backward()
    assert all(level.grad is None for level in teacher.neck)
    assert all(level.grad.ne(0).any() for level in student.neck)


# --- Degenerate channels ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 5.0, 1e-8, 1e6, -0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_channel_costs_a_half_and_has_no_gradient(value, dtype):
    student, teacher = maps(0, dtype=dtype)[0], maps(1, dtype=dtype)[0]
    constant = torch.full_like(student[:, :1], value)
    for changed in (student, teacher):
        changed.requires_grad_(False)
    flat_student = torch.cat([constant, student[:, 1:]], 1).requires_grad_()
    loss = correlation_distance(flat_student, teacher)
    loss.backward()
    others = correlation_distance(student[:, 1:], teacher[:, 1:])
    assert loss.item() == pytest.approx((4 * others.item() + 0.5) / 5, rel=0.01)
    assert flat_student.grad[:, 0].eq(0).all()
    assert flat_student.grad[:, 1:].isfinite().all()

    student.requires_grad_()
    flat_teacher = torch.cat([constant, teacher[:, 1:]], 1)
    correlation_distance(student, flat_teacher).backward()
    assert student.grad.isfinite().all()
    assert student.grad[:, 0].norm() < 1e-4 * student.grad.norm()


def test_a_channel_of_one_value_is_finite():
    student = torch.ones(1, 3, 1, 1, requires_grad=True)
    loss = correlation_distance(student, torch.zeros(1, 3, 1, 1))
    loss.backward()
    assert loss.item() == 0
    assert student.grad.eq(0).all()


def test_large_features_stay_finite():
    student = (1e6 * maps(0)[0]).requires_grad_()
    loss = correlation_distance(student, 1e6 * maps(1)[0])
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps):
    for channels in (16, 24):
        full, rounded = distil_random_maps(PearsonCorrelation(), channels)
        for rounded_term, full_term in zip(rounded["loss_pkd"], full["loss_pkd"], strict=True):
            assert rounded_term.dtype == torch.float32
            torch.testing.assert_close(rounded_term, full_term, rtol=0.01, atol=0)


# --- Levels ----------------------------------------------------------------------------------

ONE_STAGE, TWO_STAGE = [8, 16, 32, 64, 128], [4, 8, 16, 32, 64]


def test_the_finest_four_levels_are_compared():
    student, teacher = pyramid(0, ONE_STAGE), pyramid(1, ONE_STAGE)
    every = losses(student, teacher, levels=None)
    assert len(every) == 5
    torch.testing.assert_close(losses(student, teacher), every[:4])
    coarsest_first = [
        SimpleNamespace(neck=model.neck[::-1], strides=model.strides[::-1])
        for model in (student, teacher)
    ]
    torch.testing.assert_close(losses(*coarsest_first), every[:4])


def test_detectors_with_other_pyramids_are_compared_by_stride():
    student, teacher = pyramid(0, ONE_STAGE), pyramid(1, TWO_STAGE)
    by_hand = [
        10 * correlation_distance(student.neck[level], teacher.neck[level + 1])
        for level in range(4)
    ]
    torch.testing.assert_close(losses(student, teacher), by_hand)
    focus = PearsonCorrelation().focus(student, teacher, EMPTY)
    assert {name: tuple(values.shape) for name, values in focus.maps.items()} == {
        "stride 8": (8, 12), "stride 16": (4, 6), "stride 32": (2, 3), "stride 64": (1, 2),
    }  # fmt: skip


def test_levels_paired_by_index_are_resized_to_the_teachers():
    student, teacher = pyramid(0, ONE_STAGE), pyramid(1, TWO_STAGE)
    terms = losses(student, teacher, pairing="index")
    resized = nn.functional.interpolate(student.neck[0], (16, 24), mode="bilinear")
    torch.testing.assert_close(terms[0], 10 * correlation_distance(resized, teacher.neck[0]))
    assert len(terms) == 4


def test_layers_of_compared_levels_alone():
    student = Channels([5] * 5, [], tuple(ONE_STAGE))
    teacher = Channels([7, 7, 5, 7, 7], [], tuple(TWO_STAGE))
    assert [*PearsonCorrelation().adapters(student, teacher)] == ["level0", "level2", "level3"]
    by_index = PearsonCorrelation(pairing="index").adapters(student, teacher)
    assert [*by_index] == ["level0", "level1", "level3"]
    layers = nn.ModuleDict(PearsonCorrelation(levels=1).adapters(student, teacher))
    assert layers["level0"].weight.shape == (7, 5, 1, 1)
    terms = losses(pyramid(0, ONE_STAGE), pyramid(1, TWO_STAGE, 7), layers, levels=1)
    total({"": terms}).backward()
    assert all(p.grad is not None for p in layers.parameters())


def test_the_weight_of_two_stages_is_lower():
    assert PearsonCorrelation.defaults(two_stage=True) == {"weight": 6}
    assert PearsonCorrelation.defaults(two_stage=False) == {}
    assert PearsonCorrelation().needs.both == {"neck"}
