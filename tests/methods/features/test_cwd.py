"""CWD: values by hand, properties, extreme values, class maps and pairs of pyramids."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kd.methods.features.cwd import ChannelWise, channel_divergences
from kd.methods.ops.standardization import batch_normalized
from kd.observers import Channels
from tests.methods.scenes import batch_of, maps, total, view

torch.set_num_threads(1)

EMPTY = batch_of([], [])


def losses(student: object, teacher: object, adapters: object = (), **settings: object) -> list:
    terms = ChannelWise(**settings).losses(student, teacher, EMPTY, adapters)
    assert set(terms) == {"loss_cwd"}
    return terms["loss_cwd"]


def logarithms(*values: float) -> Tensor:
    """Return a map (1, 1, 1, n) whose softmax has the values, which sum to 1."""
    return torch.tensor([math.log(value) for value in values], dtype=torch.float64).view(
        1, 1, 1, -1
    )


# --- Values ----------------------------------------------------------------------------------


def test_two_cells_by_hand():
    """Teacher (2/3, 1/3), student (1/2, 1/2)."""
    by_hand = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    divergence = channel_divergences(logarithms(2 / 3, 1 / 3), logarithms(0.5, 0.5), 1.0)
    assert divergence.item() == pytest.approx(by_hand, rel=1e-9)


def test_temperature_by_hand():
    """At T = 2, (4/5, 1/5) becomes the roots 2 and 1: (2/3, 1/3), and T^2 is 4."""
    by_hand = 4 * (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))
    divergence = channel_divergences(logarithms(0.8, 0.2), logarithms(0.5, 0.5), 2.0)
    assert divergence.item() == pytest.approx(by_hand, rel=1e-9)


def test_the_mean_over_channels_and_images_summed_over_levels():
    student, teacher = view(maps(0)), view(maps(1))
    expected = [
        3 * channel_divergences(t, s, 1.0).mean()
        for s, t in zip(student.neck, teacher.neck, strict=True)
    ]
    torch.testing.assert_close(losses(student, teacher, weight=3), expected)


def test_the_gradient_is_the_difference_of_distributions():
    student, teacher = (maps(seed, dtype=torch.float64)[0] for seed in (0, 1))
    student.requires_grad_()
    channel_divergences(teacher, student, 4.0).sum().backward()
    probabilities = [(level.flatten(2) / 4).softmax(2) for level in (student, teacher)]
    torch.testing.assert_close(student.grad.flatten(2), 4 * (probabilities[0] - probabilities[1]))


# --- Properties ------------------------------------------------------------------------------


def test_zero_for_equal_maps_and_for_a_constant_added_to_a_channel():
    neck_map = maps(0, dtype=torch.float64)[0]
    assert channel_divergences(neck_map, neck_map, 4.0).eq(0).all()
    offsets = torch.arange(5.0).view(1, 5, 1, 1)
    assert channel_divergences(neck_map, neck_map + offsets, 4.0).abs().max() < 1e-12


def test_images_and_channels_do_not_mix():
    student, teacher = maps(0)[0], maps(1)[0]
    expected = channel_divergences(teacher, student, 1.0)
    order = [1, 0]
    torch.testing.assert_close(
        channel_divergences(teacher[order], student[order], 1.0), expected[order]
    )
    alone = channel_divergences(teacher[:1, 2:3], student[:1, 2:3], 1.0)
    torch.testing.assert_close(alone.flatten(), expected[0, 2:3])


@pytest.mark.parametrize("normalize", [False, True])
def test_gradcheck(normalize):
    student, teacher = torch.randn(2, 2, 3, 2, 4, dtype=torch.float64)
    change = batch_normalized if normalize else nn.Identity()
    assert torch.autograd.gradcheck(
        lambda s: channel_divergences(change(teacher), change(s), 2.0), student.requires_grad_()
    )


def test_the_teacher_has_no_gradient():
    student, teacher = view(maps(0), gradients=True), view(maps(1), gradients=True)
    total({"": losses(student, teacher)}).backward()
    assert all(level.grad is None for level in teacher.neck)
    assert all(level.grad.ne(0).all() for level in student.neck)


def test_normalized_maps_ignore_scale_and_offset_of_a_channel():
    student, teacher = view(maps(0)), view(maps(1))
    moved = view([50 * level + 7 for level in student.neck])
    expected = torch.stack(losses(student, teacher, normalize=True))
    torch.testing.assert_close(
        torch.stack(losses(moved, teacher, normalize=True)), expected, rtol=1e-3, atol=0
    )
    assert (torch.stack(losses(moved, teacher)) > 10 * expected).all()


# --- Extreme values --------------------------------------------------------------------------


@pytest.mark.parametrize("magnitude", [1e2, 1e4, 1e6])
def test_large_logits_are_finite(magnitude):
    student = (magnitude * maps(0)[0]).requires_grad_()
    loss = channel_divergences(magnitude * maps(1)[0], student, 1.0).mean()
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("side", ["student", "teacher", "both"])
def test_cells_of_minus_infinity_have_no_nan(side):
    """The loss of mmrazor is NaN: 0 times minus infinity."""
    student, teacher = maps(0)[0], maps(1)[0]
    for name, level in (("student", student), ("teacher", teacher)):
        if side in (name, "both"):
            level[:, :, 0] = -math.inf
    student.requires_grad_()
    divergences = channel_divergences(teacher, student, 1.0)
    divergences.sum().backward()
    assert not divergences.isnan().any()
    assert student.grad.isfinite().all()
    if side != "student":  # otherwise the divergence is infinite by definition
        assert divergences.isfinite().all()


def test_the_finite_cells_make_up_the_distribution():
    teacher, student = maps(1)[0], maps(0)[0]
    expected = channel_divergences(teacher[:, :, 1:], student[:, :, 1:], 1.0)
    teacher[:, :, 0] = student[:, :, 0] = -math.inf
    torch.testing.assert_close(channel_divergences(teacher, student, 1.0), expected)


def test_a_map_of_one_cell_costs_nothing():
    student = torch.ones(2, 3, 1, 1, requires_grad=True)
    loss = channel_divergences(torch.zeros(2, 3, 1, 1), student, 1.0).sum()
    loss.backward()
    assert loss.item() == 0 and student.grad.eq(0).all()


@pytest.mark.parametrize("settings", [{"temperature": 100}, {"normalize": True}])
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps, settings):
    for channels in (16, 24):
        full, rounded = distil_random_maps(ChannelWise(**settings), channels)
        for rounded_term, full_term in zip(rounded["loss_cwd"], full["loss_cwd"], strict=True):
            assert rounded_term.dtype == torch.float32
            torch.testing.assert_close(rounded_term, full_term, rtol=0.01, atol=1e-6)


# --- Maps and levels -------------------------------------------------------------------------


def test_class_maps_need_no_neck_and_no_layer():
    method = ChannelWise(maps="class", weight=5)
    assert method.needs.both == {"class_maps"} and ChannelWise().needs.both == {"neck"}
    channels = Channels([5, 5], [], (8, 16)), Channels([7, 7], [], (8, 16))
    assert method.adapters(*channels) == {}
    assert len(ChannelWise().adapters(*channels)) == 2
    student, teacher = (SimpleNamespace(class_maps=maps(seed), strides=[8, 16]) for seed in (0, 1))
    expected = [
        5 * channel_divergences(t, s, 1.0).mean()
        for s, t in zip(student.class_maps, teacher.class_maps, strict=True)
    ]
    torch.testing.assert_close(losses(student, teacher, maps="class", weight=5), expected)


def test_another_pyramid_is_compared_by_stride():
    student, teacher = view(maps(0)), view(maps(1))
    finer = SimpleNamespace(neck=[torch.randn(2, 5, 16, 24), *teacher.neck], strides=[4, 8, 16])
    torch.testing.assert_close(losses(student, finer), losses(student, teacher))
    finest = SimpleNamespace(neck=finer.neck[:2], strides=[4, 8])
    torch.testing.assert_close(losses(student, finest), losses(student, teacher)[:1])


@pytest.mark.parametrize("settings", [{}, {"maps": "class"}, {"normalize": True}])
def test_focus_is_the_teachers_distribution(settings):
    teacher = SimpleNamespace(neck=maps(1), class_maps=maps(1), strides=[8, 16])
    focus = ChannelWise(**settings).focus(teacher, teacher, EMPTY)
    assert {name: tuple(values.shape) for name, values in focus.maps.items()} == {
        "stride 8": (8, 12),
        "stride 16": (4, 6),
    }
    for values in focus.maps.values():
        assert values.sum().item() == pytest.approx(1, rel=1e-5)
