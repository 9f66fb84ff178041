"""Steps on a pretended GPU, which refuses an operator with tensors of both devices."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.config.test_applicability import LIBRARY, ON_ONE
from tests.support.distillers import distiller_configs
from tests.support.steps import build, raw_batch, step_of
from tests.training.devices.pretended_gpu import DEVICE, pretended_gpu


def test_a_tensor_of_the_gpu_has_values_and_refuses_one_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pretended_gpu(monkeypatch) as device:
        values = torch.tensor([1.0, 2.0, 3.0], device=device)
        assert values.device.type == DEVICE
        assert (values * 2).tolist() == [2.0, 4.0, 6.0]
        assert values[values > 1].cpu().equal(torch.tensor([2.0, 3.0]))
        assert values[torch.tensor([2])].item() == 3.0, "an index may be on the host"
        assert float(values.sum() + torch.tensor(1.0)) == 7.0, "so may a number"
        with pytest.raises(AssertionError, match=r"aten.add: .* of the host: \(3,\)"):
            values + torch.ones(3)
        with pytest.raises((RuntimeError, TypeError)):
            values.numpy()


def test_gradients_reach_the_tensors_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu(monkeypatch) as device:
        weight = torch.nn.Linear(2, 1).to(device).weight
        (weight * weight).sum().backward()
        assert weight.grad is not None and weight.grad.device.type == DEVICE
        assert torch.equal(weight.grad.cpu(), 2 * weight.detach().cpu())


METHODS = [method for method, _ in ON_ONE if method not in LIBRARY.presets]
"""Methods without presets, which take too long here; `pytest -m gpu` computes all."""


@pytest.mark.parametrize("method", METHODS)
def test_a_step_keeps_its_tensors_on_the_gpu_and_has_the_losses_of_the_cpu(
    method: str,
    quiet_mmdet: None,
    model_config: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = distiller_configs(model_config, tmp_path)[method]
    expected = step_of(build(config), raw_batch((3, 2)))[1]
    model = build(config)
    with pretended_gpu(monkeypatch) as device:
        _, losses = step_of(model.to(device), raw_batch((3, 2)))
        assert {value.device.type for value in losses.values()} == {DEVICE}
        values = {name: float(value) for name, value in losses.items()}
    assert values == pytest.approx({name: float(value) for name, value in expected.items()})


def test_a_step_in_parts_has_the_losses_of_the_cpu(
    quiet_mmdet: None, model_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = distiller_configs(model_config, tmp_path)["rm"]
    expected = step_of(build(config), raw_batch((3, 2)), parts=2)[1]
    model = build(config)
    with pretended_gpu(monkeypatch) as device:
        _, losses = step_of(model.to(device), raw_batch((3, 2)), parts=2)
        values = {name: float(value) for name, value in losses.items()}
    assert values == pytest.approx({name: float(value) for name, value in expected.items()})
