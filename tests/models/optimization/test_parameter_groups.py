"""Optimizers without weight decay of normalization layers and biases."""

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

import kd.models.mmdet_setup  # noqa: F401
from kd.models.optimizers import TwoParameterGroups

SETTINGS = {
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 0.1, "weight_decay": 0.5},
}
UNDECAYED = {"norm_decay_mult": 0, "bias_decay_mult": 0}
FAST_BIASES = {"bias_lr_mult": 2, "bias_decay_mult": 0}


def network() -> nn.Module:
    """Return a network with a shared and a frozen layer."""
    torch.manual_seed(0)
    shared = nn.Linear(4, 4)
    frozen = nn.Linear(4, 4).requires_grad_(False)
    layers = (nn.Linear(4, 4), nn.BatchNorm1d(4), shared, nn.LayerNorm(4), shared, frozen)
    return nn.Sequential(*layers, nn.GroupNorm(2, 4))


def updated(
    constructor: type[DefaultOptimWrapperConstructor], special: dict[str, int]
) -> tuple[int, torch.Tensor]:
    """Return the number of parameter groups, and the parameters after three steps."""
    model = network()
    unique = {"bypass_duplicate": True} if constructor is DefaultOptimWrapperConstructor else {}
    wrapper = constructor(SETTINGS, {**special, **unique})(model)
    for step in range(3):
        torch.manual_seed(step)
        wrapper.update_params(model(torch.randn(6, 4)).square().sum())
    weights = torch.cat([value.detach().flatten() for value in model.parameters()])
    return len(wrapper.optimizer.param_groups), weights


@pytest.mark.parametrize(("special", "groups"), [(UNDECAYED, 2), (FAST_BIASES, 3)])
def test_few_groups_update_as_mmengines_group_of_each_parameter(
    special: dict[str, int], groups: int
) -> None:
    count, weights = updated(TwoParameterGroups, special)
    assert count == groups
    other_count, others = updated(DefaultOptimWrapperConstructor, special)
    assert other_count == 10
    assert torch.equal(weights, others)


def test_decay_applies_to_weights_of_layers_only() -> None:
    model = network()
    decayed, others = TwoParameterGroups(SETTINGS, UNDECAYED)(model).optimizer.param_groups
    assert [value.ndim for value in decayed["params"]] == [2, 2]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert all(value.ndim == 1 for value in others["params"])
    assert len(others["params"]) == 8


def test_a_network_of_normalization_layers_has_one_group() -> None:
    (group,) = TwoParameterGroups(SETTINGS, UNDECAYED)(nn.BatchNorm2d(3)).param_groups
    assert group["weight_decay"] == 0.0


def test_biases_of_other_layers_than_normalization_have_their_rate() -> None:
    """Those of a deformable convolution's offsets are trained as weights."""
    model = network()
    offsets = nn.Module()
    offsets.conv_offset = nn.Linear(4, 2)
    model.append(offsets)
    weights, norms, biases = TwoParameterGroups(SETTINGS, FAST_BIASES)(model).optimizer.param_groups
    assert (weights["lr"], weights["weight_decay"]) == (0.1, 0.5)
    assert (norms["lr"], norms["weight_decay"]) == (0.1, 0.0)
    assert (biases["lr"], biases["weight_decay"]) == (0.2, 0.0)
    assert {id(value) for value in biases["params"]} == {id(model[0].bias), id(model[2].bias)}
    assert {id(value) for value in norms["params"]} == {id(model[at].bias) for at in (1, 3, 6)}
    assert len(weights["params"]) == 2 + 3 + 2
