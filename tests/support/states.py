"""Comparison of the weights of models bit by bit."""

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def copied(model: nn.Module) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: State, after: State) -> list[str]:
    """Return the names of tensors that differ in any bit."""
    assert before.keys() == after.keys()
    return [name for name in before if not torch.equal(before[name], after[name])]
