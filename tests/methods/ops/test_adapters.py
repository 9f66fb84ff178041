"""Adaptation layers and distances over regions, which several methods share."""

import pytest
import torch
from torch import nn

from kd.methods.ops.adapters import INITIAL_SCALE, adaptations, adapted, squared_distance
from kd.methods.ops.reduction import mean_over

torch.set_num_threads(1)


@pytest.mark.parametrize("mask", [None, torch.tensor([[[1.0, 0.3], [0.0, 0.0]]])])
def test_gradcheck(mask):
    student, teacher = torch.randn(2, 1, 3, 2, 2, dtype=torch.float64)

    def loss(s):
        return mean_over(squared_distance(s, teacher), mask)

    assert torch.autograd.gradcheck(loss, student.requires_grad_())


def test_a_mean_over_weights_by_hand():
    """The mean is (4 x 1 + 9 x 0.5) / 1.5; a cell without weight does not count."""
    values, mask = torch.tensor([[[4.0, 9.0, 100.0]]]), torch.tensor([[[1.0, 0.5, 0.0]]])
    assert mean_over(values, mask).item() == pytest.approx(8.5 / 1.5)
    assert mean_over(values, None).item() == pytest.approx(113 / 3)


def test_squares_are_summed_over_channels_and_the_teacher_gets_no_gradient():
    student = torch.zeros(1, 2, 1, 1, requires_grad=True)
    teacher = torch.tensor([3.0, 4.0], requires_grad=True)[None, :, None, None]
    distance = squared_distance(student, teacher)
    assert distance.tolist() == [[[25.0]]]
    distance.sum().backward()
    assert student.grad.flatten().tolist() == [-6.0, -8.0]


def test_an_empty_mask_gives_an_attached_zero():
    values = torch.ones(1, 2, 2, requires_grad=True)
    mean = mean_over(values, torch.zeros(1, 2, 2))
    mean.backward()
    assert mean.item() == 0
    assert values.grad.eq(0).all()


def test_levels_with_a_layer():
    assert set(adaptations([4, 4], [4, 6], "none")) == {"level1"}
    layers = nn.ModuleDict(adaptations([4, 4], [4, 6], "3x3_relu"))
    assert set(layers) == {"level0", "level1"}
    assert isinstance(layers["level1"][1], nn.ReLU)
    assert adapted(layers, 1, torch.randn(1, 4, 3, 2).half()).shape == (1, 6, 3, 2)
    with pytest.raises(ValueError, match="zip"):
        adaptations([4], [4, 4], "none")


def test_a_3x3_starts_as_in_the_code_of_fgfi():
    """A normal modulo 2 has the standard deviation 0.87: values above 2 are folded to near 0."""
    torch.manual_seed(0)
    layer = adaptations([64], [64], "3x3")["level0"]
    assert layer.weight.abs().max() <= 2 * INITIAL_SCALE
    assert layer.weight.std().item() == pytest.approx(0.87 * INITIAL_SCALE, rel=0.02)
    assert layer.weight.requires_grad
    assert adaptations([64], [64], "1x1")["level0"].weight.std() > 0.05


def test_without_a_layer_the_map_itself_in_float32():
    maps = torch.randn(1, 2, 3, 3).bfloat16()
    assert torch.equal(adapted({}, 0, maps), maps.float())
