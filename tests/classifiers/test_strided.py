"""A frozen strided convolution has the outputs and the gradient of torch's convolution."""

import pytest
import torch
import torch.nn.functional as F

from kd.classifiers import strided

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("side", "stride", "padding", "size"),
    [
        pytest.param(7, 2, 3, (16, 12), id="the stem of a ResNet"),
        pytest.param(3, 2, 1, (8, 6), id="that of a MobileNet"),
        pytest.param(4, 4, 0, (8, 12), id="patches"),
        pytest.param(5, 3, 2, (9, 12), id="three phases"),
        pytest.param(3, 2, 0, (8, 8), id="without a border"),
        pytest.param(1, 2, 0, (8, 8), id="narrower than its stride"),
        pytest.param(11, 4, 2, (32, 36), id="the stem of AlexNet"),
        pytest.param(3, 1, 1, (5, 7), id="no stride"),
        pytest.param(7, 2, 3, (15, 12), id="phases of different size"),
    ],
)
def test_values_and_gradients_are_those_of_the_convolution(side, stride, padding, size):
    torch.manual_seed(0)
    images = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, side, side, dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64)
    expected = F.conv2d(images, weight, bias, stride, padding)
    outputs = strided.conv2d(images, weight, bias, stride, padding)
    assert torch.equal(outputs, expected)
    gradient = torch.randn_like(outputs)
    (input_gradient,), (expected_gradient,) = (
        torch.autograd.grad(result, images, gradient) for result in (outputs, expected)
    )
    torch.testing.assert_close(input_gradient, expected_gradient, rtol=1e-12, atol=1e-12)


def test_an_empty_batch_has_an_empty_gradient():
    images = torch.zeros(0, 3, 8, 8, requires_grad=True)
    outputs = strided.conv2d(images, torch.ones(5, 3, 7, 7), torch.ones(5), 2, 3)
    (input_gradient,) = torch.autograd.grad(outputs.sum(), images)
    assert input_gradient.shape == (0, 3, 8, 8)


def test_gradcheck():
    torch.manual_seed(0)
    images = torch.randn(1, 2, 6, 4, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(3, 2, 5, 5, dtype=torch.float64), torch.zeros(3).double()
    assert torch.autograd.gradcheck(lambda x: strided.conv2d(x, weight, bias, 2, 2), images)
