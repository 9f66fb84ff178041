"""Steps on a GPU, and on the CPU where there is none: losses, precision, copies, compiling."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.compile import teacher
from benchmarks.suites.parts import compiler
from kd.common.timing import synchronize
from kd.training.meter import Meter, UsedResources, gpus_in_use
from tests.support import machine
from tests.support.devices import Waits
from tests.support.distillers import distiller_configs
from tests.support.steps import build, raw_batch, step_of

TOLERANCE = 1e-2
"""Largest relative difference of a loss between two devices; kernels of a GPU round otherwise."""

RANDOM = ("mgd", "mgd_inherit")
"""Methods that draw on the device: a GPU draws other numbers than the CPU from the same seed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.fixture
def exact() -> Any:
    """Switch TF32 off, which rounds products of float32 to ten bits."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def test_a_step_of_each_method_has_the_losses_of_the_cpu(
    device: str, quiet_mmdet: None, model_config: Any, folder: Path, exact: None
) -> None:
    """On a CPU only three: test_pretended_gpu.py computes the others there."""
    configs = distiller_configs(model_config, folder)
    if device == "cpu":
        configs = {name: configs[name] for name in ("fitnets", "gid", "mgd")}
    differing = {}
    for method, config in configs.items():
        on_cpu = step_of(build(config), raw_batch((3, 2)))[1]
        model = build(config).to(device)
        optimizer, on_device = step_of(model, raw_batch((3, 2)))
        assert on_device.keys() == on_cpu.keys()
        assert {gradient.device.type for gradient in optimizer.gradients.values()} == {device}
        for name, value in on_cpu.items():
            assert on_device[name].isfinite(), f"{method}: {name}"
            is_random = device == "cuda" and method in RANDOM and name in ("loss", "loss_mgd")
            close = torch.isclose(on_device[name].cpu(), value, rtol=TOLERANCE, atol=1e-4)
            if not close and not is_random:
                differing[f"{method}: {name}"] = (float(on_device[name]), float(value))
    assert differing == {}


def test_bfloat16_computes_convolutions_in_half_precision_and_channels_last(
    device: str, quiet_mmdet: None, model_config: Any
) -> None:
    config = model_config()
    full = step_of(build(config).to(device), raw_batch((3, 2)))[1]
    model = build(config).to(device).to(memory_format=torch.channels_last)
    outputs: list[torch.Tensor] = []
    for layer in model.backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    optimizer, half = step_of(model, raw_batch((3, 2)), precision="bfloat16")
    assert {output.dtype for output in outputs} == {torch.bfloat16}
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in outputs)
    assert {value.dtype for value in optimizer.gradients.values()} == {torch.float32}
    assert half["loss_cls"].dtype == torch.float32
    assert torch.isclose(half["loss_cls"], full["loss_cls"], rtol=0.05)


def test_pinned_images_are_copied_without_a_wait(
    device: str, quiet_mmdet: None, model_config: Any
) -> None:
    raw, config = raw_batch((3, 2)), model_config()
    blocking = build(config).data_preprocessor(copy.deepcopy(raw), training=True)
    config["data_preprocessor"]["non_blocking"] = True
    preprocessor = build(config).to(device).data_preprocessor
    if device == "cuda":
        raw["inputs"] = [image.pin_memory() for image in raw["inputs"]]
    preprocessor(copy.copy(raw), training=True)  # the first call allocates
    synchronize()
    waits = Waits(device)
    with waits.counting():
        batch = preprocessor(raw, training=True)
    on_host = {"aten._local_scalar_dense": 1}  # mmengine sums the sizes of images, which are here
    assert (waits.counts, waits.warned) == (on_host if device == "cpu" else {}, [])
    assert batch["inputs"].device.type == device
    assert torch.allclose(batch["inputs"].cpu(), blocking["inputs"], atol=1e-5)
    for sample, expected in zip(batch["data_samples"], blocking["data_samples"], strict=True):
        assert sample.gt_instances.bboxes.cpu().equal(expected.gt_instances.bboxes)


def test_a_compiled_teacher_equals_the_plain_one(
    device: str, quiet_mmdet: None, exact: None
) -> None:
    """On the CPU its graph runs without generated code, which takes half a minute to compile."""
    if device == "cuda" and (reason := compiler()):
        machine.skip(reason, "install triton and gcc")
    plain = teacher("smoke", "r18-w0.125").to(device)
    backend = "inductor" if device == "cuda" else "aot_eager"
    compiled = torch.compile(copy.deepcopy(plain), backend=backend)
    images = torch.randn(2, 3, 64, 64, device=device)
    with torch.no_grad():
        for ours, theirs in zip(compiled(images), plain(images), strict=True):
            assert ours.device.type == device
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_energy_is_measured_on_a_gpu_only(device: str, quiet_mmdet: None) -> None:
    import pynvml

    meter = Meter(gpus_in_use(), UsedResources())
    left, right = torch.randn(2, 512, 512, device=device)
    for _ in range(2000 if device == "cuda" else 1):
        left = (left @ right).tanh()
    synchronize()
    used = meter.used
    assert used.seconds > 0 and used.peak_memory_mb > 0
    if device == "cpu":
        assert (used.energy_joules, used.gpu_seconds) == (None, 0)
        return
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpus_in_use()[0])
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        machine.skip(f"NVML reads no energy here ({error})", "use a whole GPU of Volta or newer")
    assert used.energy_joules is not None and used.energy_joules >= 0


def test_a_run_in_bfloat16_is_profiled_in_channels_last(
    device: str, study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd.profiling.trainee import Trainee

    config = next(iter(study(["pfi"]).runs.values())).config
    config["optim_wrapper"]["precision"] = "bfloat16"
    monkeypatch.setattr("kd.training.train.LEAST_BFLOAT16_WIDTH", 0)  # no step is made
    trainee = Trainee.build(config)
    weights = [value for value in trainee.model.parameters() if value.dim() == 4]
    assert {value.device.type for value in weights} == {device}
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in weights)
