"""The operators behind ``mmcv.ops`` against slow references in Python floats (float64)."""

import importlib.util
import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from kd.common.errors import UserError
from kd.models import roi_align
from kd.models.mmcv_ops import UnservedOperatorError, install

INSTALLED = install()

import mmcv  # noqa: E402
from mmcv import ops  # noqa: E402

torch.set_num_threads(1)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
COMPILED = "mmcv.ops is compiled here; install requirements.lock, which has mmcv-lite"
pytestmark = pytest.mark.skipif(not INSTALLED, reason=COMPILED)


# --- RoIAlign ------------------------------------------------------------------------------


def bilinear(image: torch.Tensor, y: float, x: float) -> torch.Tensor:
    """Return the channels (C,) of an image (C, H, W) at a point; 0 beyond a pixel outside."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(len(image))
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    upper = (1 - along) * image[:, top, left] + along * image[:, top, right]
    lower = (1 - along) * image[:, bottom, left] + along * image[:, bottom, right]
    return (1 - down) * upper + down * lower


def reference_roi_align(features, rois, size, scale, ratio, aligned) -> torch.Tensor:
    output = features.new_zeros(len(rois), features.shape[1], *size)
    for number, (index, *box) in enumerate(rois.tolist()):
        left, top, right, bottom = (side * scale - 0.5 * aligned for side in box)
        height, width = bottom - top, right - left
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        step = (height / size[0], width / size[1])
        rows, columns = (ratio or math.ceil(side) for side in step)
        for row, column in np.ndindex(*size):
            samples = [
                bilinear(
                    features[int(index)],
                    top + step[0] * (row + (i + 0.5) / rows),
                    left + step[1] * (column + (j + 0.5) / columns),
                )
                for i, j in np.ndindex(rows, columns)
            ]
            output[number, :, row, column] = sum(samples) / max(len(samples), 1)
    return output


# One of each image, then: no area, wholly outside, across a corner, on a border, larger than all.
ROIS = torch.tensor(
    [
        [0, 1.3, 2.1, 9.7, 6.2],
        [1, 3.0, 0.4, 5.5, 7.9],
        [1, 4.0, 4.0, 4.0, 4.0],
        [0, 40.0, 40.0, 50.0, 60.0],
        [1, -6.0, -5.0, 3.0, 2.0],
        [0, 0.0, 0.0, 11.0, 8.0],
        [0, -20.0, -20.0, 40.0, 40.0],
    ],
    dtype=torch.float64,
)


def random_features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 8, 11, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("scale", "ratio"), [(1.0, 0), (0.5, 0), (0.5, 2), (1.0, 1)])
def test_roi_align_matches_the_reference(scale, ratio, aligned, device):
    features = random_features()
    expected = reference_roi_align(features, ROIS, (2, 3), scale, ratio, aligned)
    layer = ops.RoIAlign((2, 3), scale, ratio, aligned=aligned)
    pooled = layer(features.to(device), ROIS.to(device))
    torch.testing.assert_close(pooled.cpu(), expected)
    torch.testing.assert_close(
        layer(features.float().to(device), ROIS.float().to(device)).cpu(),
        expected.float(),
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("largest", [0, roi_align.LARGEST_MAP])
def test_roi_align_gradient(largest, ratio, aligned, device, monkeypatch):
    monkeypatch.setattr(roi_align, "LARGEST_MAP", largest)
    features, rois = random_features()[:, :1, :6, :6].to(device), ROIS.to(device)

    def pool(image: torch.Tensor) -> torch.Tensor:
        return ops.roi_align(image, rois, (2, 2), 0.7, ratio, "avg", aligned)

    assert torch.autograd.gradcheck(pool, features.requires_grad_(), nondet_tol=1e-10)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 3])
def test_roi_align_gradient_by_products_is_that_of_the_kernel(ratio, aligned):
    generator = torch.Generator().manual_seed(3)
    shape, size = torch.Size((3, 5, 17, 23)), (7, 4)
    corner, side = torch.rand(2, 200, 2, generator=generator, dtype=torch.float64)
    near = corner * 120 - 14
    image = torch.arange(200)[:, None] % 2  # of the third there is none
    rois = torch.cat([image, near, near + side * 150], 1)
    gradient = torch.randn(200, 5, *size, generator=generator, dtype=torch.float64)
    expected = torch.ops.torchvision._roi_align_backward(
        gradient, rois, 0.2, *size, *shape, ratio, aligned
    )
    spread = roi_align.spread(gradient, rois, shape, 0.2, ratio, aligned)
    torch.testing.assert_close(spread, expected, rtol=1e-10, atol=1e-10)
    assert not spread[2].any()


@pytest.mark.parametrize("device", DEVICES)
def test_roi_align_of_no_roi(device):
    features = random_features().to(device).requires_grad_()
    pooled = ops.roi_align(features, torch.zeros(0, 5, dtype=torch.float64, device=device), 7)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_roi_align_in_half_precision_keeps_its_type_and_rounds_once(dtype):
    features = random_features().to(dtype).requires_grad_()
    rois = ROIS.to(dtype)
    pooled = ops.roi_align(features, rois, 2, 0.5)
    wide = ops.roi_align(features.detach().float(), rois.float(), 2, 0.5)
    assert pooled.dtype == dtype
    assert torch.equal(pooled, wide.to(dtype))
    pooled.sum().backward()
    assert features.grad.dtype == dtype


def test_roi_align_refuses_max_pooling():
    with pytest.raises(UnservedOperatorError, match=r"roi_align_forward with pool_mode='max'"):
        ops.roi_align(random_features(), ROIS, 2, 1.0, 0, "max", True)


# --- focal loss ----------------------------------------------------------------------------


def reference_focal(logits, target, gamma, alpha, weight=None) -> torch.Tensor:
    loss = torch.zeros_like(logits)
    for row, column in np.ndindex(*logits.shape):
        p = 1 / (1 + math.exp(-logits[row, column]))
        label = int(target[row])
        if label == column:
            loss[row, column] = -alpha * (1 - p) ** gamma * math.log(p)
        else:
            loss[row, column] = -(1 - alpha) * p**gamma * math.log(1 - p)
        if weight is not None and label < len(weight):
            loss[row, column] *= weight[label]
    return loss


def focal_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (9, 4) and targets (9,), each class and background (4) among them."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(9, 4, generator=generator, dtype=torch.float64) * 3
    return logits, torch.tensor([0, 1, 2, 3, 4, 4, 2, 0, 4])


WEIGHT = torch.tensor([0.5, 2.0, 0.0, 1.5], dtype=torch.float64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.3), (0.7, 0.9)])
def test_focal_loss_matches_the_reference(gamma, alpha, weight, device):
    logits, target = focal_inputs()
    expected = reference_focal(logits, target, gamma, alpha, weight)
    arguments = (target.to(device), gamma, alpha, None if weight is None else weight.to(device))
    loss = ops.sigmoid_focal_loss(logits.to(device), *arguments, "none")
    torch.testing.assert_close(loss.cpu(), expected)
    total = ops.sigmoid_focal_loss(logits.to(device), *arguments, "sum")
    torch.testing.assert_close(total.cpu(), expected.sum())
    mean = ops.sigmoid_focal_loss(logits.to(device), *arguments, "mean")
    torch.testing.assert_close(mean.cpu(), expected.sum() / 9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(("gamma", "weight"), [(2.0, None), (0.7, WEIGHT), (0.0, None)])
def test_focal_loss_gradient(gamma, weight, reduction, device):
    logits, target = (tensor.to(device) for tensor in focal_inputs())
    weight = None if weight is None else weight.to(device)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return ops.sigmoid_focal_loss(values, target, gamma, 0.3, weight, reduction)

    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


def test_focal_loss_of_no_row_and_of_one():
    empty = torch.zeros(0, 4, requires_grad=True)
    loss = ops.sigmoid_focal_loss(empty, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, "sum")
    loss.backward()
    assert loss == 0
    assert empty.grad.shape == (0, 4)
    one = ops.sigmoid_focal_loss(torch.zeros(1, 1), torch.tensor([0]), 2.0, 0.25, None, "sum")
    assert one.item() == pytest.approx(0.25 * 0.25 * math.log(2))


def test_focal_loss_stays_exact_where_the_sigmoid_saturates():
    logits = torch.tensor([[-200.0, 30.0], [200.0, -30.0]], requires_grad=True)
    loss = ops.sigmoid_focal_loss(logits, torch.tensor([0, 2]), 2.0, 0.25, None, "none")
    expected = [0.25 * 200, 0.75 * 30, 0.75 * 200, 0.0]
    assert loss.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    loss.sum().backward()
    assert logits.grad.flatten().tolist() == pytest.approx([-0.25, 0.75, 0.75, 0.0], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_focal_loss_in_half_precision_rounds_once(dtype):
    logits, target = focal_inputs()
    logits = logits.to(dtype)
    loss = ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "none")
    wide = ops.sigmoid_focal_loss(logits.float(), target, 2.0, 0.25, None, "none")
    assert torch.equal(loss, wide.to(dtype))


# --- installation --------------------------------------------------------------------------


def test_install_twice_keeps_the_first_module():
    before = sys.modules["mmcv._ext"]
    assert install() is True
    assert sys.modules["mmcv._ext"] is before


def test_an_unserved_operator_exists_and_its_call_says_what_to_install():
    pool = ops.DeformRoIPool(2)
    with pytest.raises(UnservedOperatorError) as caught:
        pool(torch.zeros(1, 2, 8, 8), torch.zeros(1, 5), torch.zeros(1, 2, 2, 2))
    assert "'deform_roi_pool_forward'" in str(caught.value)
    assert "pip install --no-binary mmcv mmcv==2.1.0" in str(caught.value)
    assert torch.__version__ in str(caught.value)
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, NotImplementedError)


def test_the_stand_in_is_an_ordinary_module_to_the_import_system():
    extension = importlib.import_module("mmcv._ext")
    assert importlib.util.find_spec("mmcv._ext") is extension.__spec__
    assert not hasattr(extension, "__path__")
    assert not hasattr(extension, "__wrapped__")


def test_the_environment_report_names_the_stand_in():
    assert "torchvision" in ops.get_compiler_version()
    assert ops.get_compiling_cuda_version() == (torch.version.cuda or "not available")


def test_a_loaded_compiled_mmcv_is_left_in_place(monkeypatch):
    compiled = ModuleType("mmcv._ext")
    monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    assert install() is False
    assert sys.modules["mmcv._ext"] is compiled


def test_an_installed_compiled_mmcv_is_used(monkeypatch, tmp_path):
    (tmp_path / "_ext.py").write_text("compiled = True")
    monkeypatch.setattr(mmcv, "__path__", [str(tmp_path), *mmcv.__path__])
    monkeypatch.setitem(sys.modules, "mmcv._ext", sys.modules["mmcv._ext"])
    del sys.modules["mmcv._ext"]
    assert install() is False
    assert sys.modules["mmcv._ext"].compiled
