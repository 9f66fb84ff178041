"""Deformable convolutions behind ``mmcv.ops`` against loops over every sample, in float64."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import kd.models.mmdet_setup  # noqa: F401
from kd.models import deform_ops
from kd.models.mmcv_ops import install

INSTALLED = install()

from mmcv import ops  # noqa: E402

torch.set_num_threads(1)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
COMPILED = "mmcv.ops is compiled here; install requirements.lock, which has mmcv-lite"
pytestmark = pytest.mark.skipif(not INSTALLED, reason=COMPILED)

GEOMETRIES = {
    "plain": {},
    "stride": {"stride": (2, 1)},
    "padding": {"padding": (0, 2)},
    "dilation": {"dilation": (1, 2), "padding": 2},
    "groups": {"groups": 2},
    "offset groups": {"deform_groups": 2},
    "both groups": {"groups": 4, "deform_groups": 2, "padding": 1},
    "one cell": {"kernel": (1, 1), "deform_groups": 4, "groups": 4},
    "flat": {"kernel": (1, 3), "stride": (1, 2), "padding": (0, 1)},
}

BATCHED = ("input", "offset", "gradient")
"""Operands with an entry for each image."""


def problem(batch: int = 2, spread: float = 2.0, **geometry: Any) -> SimpleNamespace:
    """Return random operands of a convolution of (B, 4, 5, 6) to 4 channels."""
    generator = torch.Generator().manual_seed(5)
    kernel = geometry.pop("kernel", (3, 3))
    settings = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "deform_groups": 1}
    settings |= geometry
    stride, padding, dilation = (
        value if isinstance(value, tuple) else (value, value)
        for value in (settings[key] for key in ("stride", "padding", "dilation"))
    )
    rows, columns = (
        (side + 2 * pad - step * (size - 1) - 1) // jump + 1
        for side, pad, step, size, jump in zip(
            (5, 6), padding, dilation, kernel, stride, strict=True
        )
    )
    samples = settings["deform_groups"] * kernel[0] * kernel[1]

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return SimpleNamespace(
        input=draw(batch, 4, 5, 6),
        offset=spread * draw(batch, 2 * samples, rows, columns),
        mask=draw(batch, samples, rows, columns).sigmoid(),
        weight=draw(4, 4 // settings["groups"], *kernel),
        bias=draw(4),
        gradient=draw(batch, 4, rows, columns),
        **(settings | {"stride": stride, "padding": padding, "dilation": dilation}),
    )


def sampled(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return the channels (C,) of an image (C, H, W) at a point, with 0 outside of the image."""
    total = image.new_zeros(len(image))
    top, left = int(y.detach().floor()), int(x.detach().floor())
    for row, column in product((top, top + 1), (left, left + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            total = total + image[:, row, column] * (1 - (y - row).abs()) * (1 - (x - column).abs())
    return total


def reference(p: SimpleNamespace, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Return the convolution of a problem, one sample at a time."""
    outputs, inputs, *kernel = p.weight.shape
    parts = p.input.shape[1] // p.deform_groups
    output: list[Tensor] = []
    for image, row, column in product(len_range(p.input), *map(range, p.offset.shape[2:])):
        total = p.weight.new_zeros(outputs) if bias is None else bias
        for cell, (i, j) in enumerate(product(*map(range, kernel))):
            samples = []
            for part in range(p.deform_groups):
                place = part * kernel[0] * kernel[1] + cell
                dy, dx = p.offset[image, 2 * place : 2 * place + 2, row, column]
                channels = p.input[image, part * parts : (part + 1) * parts]
                y = row * p.stride[0] - p.padding[0] + i * p.dilation[0] + dy
                x = column * p.stride[1] - p.padding[1] + j * p.dilation[1] + dx
                scale = 1 if mask is None else mask[image, place, row, column]
                samples.append(scale * sampled(channels, y, x))
            channels = torch.cat(samples).view(p.groups, inputs)
            weights = p.weight[:, :, i, j].view(p.groups, -1, inputs)
            total = total + torch.einsum("goi,gi->go", weights, channels).flatten()
        output.append(total)
    rows, columns = p.offset.shape[2:]
    return torch.stack(output).view(len(p.input), rows, columns, outputs).permute(0, 3, 1, 2)


def len_range(values: Any) -> range:
    return range(len(values))


def first(p: SimpleNamespace) -> Tensor:
    """Return the problem's convolution v1 by mmcv."""
    return ops.deform_conv2d(
        p.input, p.offset, p.weight, p.stride, p.padding, p.dilation, p.groups, p.deform_groups
    )


def second(p: SimpleNamespace, bias: Tensor | None) -> Tensor:
    """Return the problem's convolution v2 by mmcv."""
    return ops.modulated_deform_conv2d(
        p.input, p.offset, p.mask, p.weight, bias, p.stride, p.padding, p.dilation, p.groups,
        p.deform_groups,
    )  # fmt: skip


def moved(p: SimpleNamespace, device: str, dtype: torch.dtype = torch.float64) -> SimpleNamespace:
    values = {
        name: value.to(device, dtype) if isinstance(value, Tensor) else value
        for name, value in vars(p).items()
    }
    return SimpleNamespace(**values)


def gradients(p: SimpleNamespace, output: Tensor, operands: list[Tensor]) -> list[Tensor]:
    return [g.cpu() for g in torch.autograd.grad(output, operands, p.gradient)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_v1_and_its_gradients_match_the_loops(name: str, device: str) -> None:
    p = problem(**GEOMETRIES[name])
    ours = moved(p, device)
    results = []
    for case, convolve in ((p, reference), (ours, first)):
        operands = [case.input, case.offset, case.weight]
        for operand in operands:
            operand.requires_grad_()
        output = convolve(case)
        results.append([output.detach().cpu(), *gradients(case, output, operands)])
    for expected, value in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_v2_and_its_gradients_match_the_loops(name: str, with_bias: bool, device: str) -> None:
    p = problem(**GEOMETRIES[name])
    ours = moved(p, device)
    results = []
    for case in (p, ours):
        operands = [case.input, case.offset, case.weight, case.mask]
        operands += [case.bias] * with_bias
        for operand in operands:
            operand.requires_grad_()
        bias = case.bias if with_bias else None
        output = reference(case, case.mask, bias) if case is p else second(case, bias)
        results.append([output.detach().cpu(), *gradients(case, output, operands)])
    for expected, value in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_those_of_finite_differences(device: str) -> None:
    p = moved(problem(batch=1, deform_groups=2, padding=1), device)
    operands = [p.input, p.offset, p.mask, p.weight, p.bias]

    def convolve(*values: Tensor) -> Tensor:
        return ops.modulated_deform_conv2d(*values, 1, 1, 1, 1, 2)

    for operand in operands:
        operand.requires_grad_()
    assert torch.autograd.gradcheck(convolve, operands, nondet_tol=1e-10)


def test_an_offset_is_y_before_x_and_outside_of_the_image_are_zeros() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    weight = torch.ones(1, 1, 1, 1)
    down, right, far, half = ([1, 0], [0, 1], [-9, 40], [-0.5, 0])
    rows = {
        "down": (down, [[4, 5, 6, 7], [8, 9, 10, 11], [0, 0, 0, 0]]),
        "right": (right, [[1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]),
        "far": (far, [[0] * 4] * 3),
        "half a cell up": (half, [[0, 0.5, 1, 1.5], [2, 3, 4, 5], [6, 7, 8, 9]]),
    }
    for step, expected in rows.values():
        offset = torch.tensor(step, dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, 3, 4)
        output = ops.deform_conv2d(image, offset.contiguous(), weight)
        assert output[0, 0].tolist() == expected


def test_without_offsets_it_is_an_ordinary_convolution() -> None:
    p = problem(padding=1)
    p.offset, p.mask = torch.zeros_like(p.offset), torch.ones_like(p.mask)
    plain = nn.functional.conv2d(p.input, p.weight, p.bias, padding=1)
    torch.testing.assert_close(second(p, p.bias), plain)
    torch.testing.assert_close(first(p), plain - p.bias[:, None, None])


def test_the_weight_alone_has_the_gradient_that_it_has_with_the_input() -> None:
    """The calls for both come one after the other; no call must read an earlier backward pass."""
    p = problem()
    p.input.requires_grad_()
    p.weight.requires_grad_()
    output = first(p)
    _, together = torch.autograd.grad(output, [p.input, p.weight], p.gradient, retain_graph=True)
    (alone,) = torch.autograd.grad(output, p.weight, p.gradient, retain_graph=True)
    torch.testing.assert_close(alone, together)
    torch.autograd.grad(output, p.input, p.gradient, retain_graph=True)
    (doubled,) = torch.autograd.grad(output, p.weight, 2 * p.gradient)
    torch.testing.assert_close(doubled, 2 * together)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_the_images_of_a_call_do_not_change_values(step: int) -> None:
    p = problem(batch=4)
    values = p.input, p.offset, p.weight, 1, 0, 1, 1, 1, False
    assert torch.equal(ops.deform_conv2d(*values, step), ops.deform_conv2d(*values, 32))


@pytest.mark.parametrize("images", [33, 37, 48, 64])
def test_a_batch_of_any_size_is_computed_image_by_image(images: int) -> None:
    """The function of mmcv refuses numbers above 32 that 32 does not divide."""
    p = problem(batch=images, padding=1)
    halves = [
        SimpleNamespace(**{**vars(p), **{key: getattr(p, key)[part] for key in BATCHED}})
        for part in (slice(20), slice(20, None))
    ]
    for case in (p, *halves):
        case.input = case.input.clone().requires_grad_()
    output, parts = first(p), [first(half) for half in halves]
    torch.testing.assert_close(output, torch.cat(parts), rtol=1e-12, atol=1e-12)
    (whole,) = torch.autograd.grad(output, p.input, p.gradient)
    gradients = [
        torch.autograd.grad(part, half.input, half.gradient)[0]
        for part, half in zip(parts, halves, strict=True)
    ]
    torch.testing.assert_close(whole, torch.cat(gradients), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("images", "step"), [(1, 1), (20, 20), (33, 11), (37, 1), (48, 24)])
def test_the_step_divides_the_batch(
    images: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled mmcv would compute that number of images at once."""
    steps = []
    module = ops.deform_conv.ext_module
    monkeypatch.setattr(
        module, "deform_conv_forward", lambda *_, im2col_step, **__: steps.append(im2col_step)
    )
    first(problem(batch=images))
    assert steps == [step]


def test_a_batch_of_no_image() -> None:
    """The operators are called, because mmcv's functions refuse such a batch themselves."""
    p, unused = problem(batch=0), torch.empty(0)
    v1 = {"dH": 1, "dW": 1, "padH": 0, "padW": 0, "dilationH": 1, "dilationW": 1}
    v2 = {"stride_h": 1, "stride_w": 1, "pad_h": 0, "pad_w": 0, "dilation_h": 1, "dilation_w": 1}
    groups = {"group": 1, "deformable_group": 1}
    grads = [torch.ones_like(t) for t in (p.input, p.weight, p.bias, p.offset, p.mask)]
    bare = p.input, p.offset, p.gradient
    deform_ops.deform_conv_forward(
        p.input, p.weight, p.offset, p.gradient, unused, unused, **v1, **groups
    )
    deform_ops.deform_conv_backward_parameters(*bare, grads[1], unused, unused, **v1, **groups)
    assert not grads[1].any()
    operands = p.input, p.weight, p.bias, unused, p.offset, p.mask
    settings = {**v2, **groups, "with_bias": True}
    deform_ops.modulated_deform_conv_forward(*operands, p.gradient, unused, **settings)
    deform_ops.modulated_deform_conv_backward(*operands, unused, *grads, p.gradient, **settings)
    assert not any(gradient.any() for gradient in grads)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_type_and_rounds_once(dtype: torch.dtype) -> None:
    p = moved(problem(), "cpu", dtype)
    wide = moved(p, "cpu", torch.float32)
    for convolve in (first, lambda p: second(p, p.bias)):
        for operand in (p.input, p.offset, p.weight):
            operand.requires_grad_()
        output = convolve(p)
        assert output.dtype == dtype
        assert torch.equal(output, convolve(wide).to(dtype))
        for gradient in torch.autograd.grad(output, [p.input, p.offset, p.weight], p.gradient):
            assert gradient.dtype == dtype
            assert gradient.isfinite().all()


@pytest.mark.parametrize("layer", [ops.DeformConv2dPack, ops.ModulatedDeformConv2dPack])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layers_train_in_mixed_precision(layer: type[nn.Module], dtype: torch.dtype) -> None:
    """The offsets are of a convolution in half precision, input and weight are float32."""
    torch.manual_seed(0)
    convolution = layer(4, 4, 3, padding=1)
    with torch.autocast("cpu", dtype):
        output = convolution(torch.randn(2, 4, 6, 6))
    output.float().square().sum().backward()
    for parameter in convolution.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_an_image_smaller_than_the_kernel() -> None:
    """The layer of mmcv pads it to the kernel's size and cuts the output again."""
    layer = ops.DeformConv2d(4, 4, 3, padding=1).double()
    image = problem().input[:, :, :2, :1]
    output = layer(image, image.new_zeros(2, 18, 2, 1))
    plain = nn.functional.conv2d(image, layer.weight, padding=1)
    torch.testing.assert_close(output, plain)
