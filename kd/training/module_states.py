"""State of a model's modules in training that its weights do not hold."""

from typing import Any

from torch import nn


def set_epoch(model: nn.Module, epoch: int) -> None:
    """Set the number of finished epochs of each module that has ``set_epoch``."""
    module: Any
    for module in model.modules():
        if hasattr(module, "set_epoch"):
            module.set_epoch(epoch)


def training_states(model: nn.Module) -> dict[str, Any]:
    """Return the state of each module that has ``training_state``, by its name in the model."""
    modules: dict[str, Any] = dict(model.named_modules())
    return {
        name: module.training_state()
        for name, module in modules.items()
        if hasattr(module, "training_state")
    }


def load_training_states(model: nn.Module, states: dict[str, Any]) -> None:
    """Load the states that ``training_states`` returned."""
    for name, state in states.items():
        module: Any = model.get_submodule(name)
        module.load_training_state(state)
