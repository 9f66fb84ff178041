"""A frozen strided convolution: the gradient to its images is that of torch's own."""

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
    found = strided.conv2d(images, weight, bias, stride, padding)
    assert torch.equal(found, expected)
    gradient = torch.randn_like(found)
    (slope,), (wanted,) = (
        torch.autograd.grad(each, images, gradient) for each in (found, expected)
    )
    torch.testing.assert_close(slope, wanted, rtol=1e-12, atol=1e-12)


def test_of_no_image_there_is_no_gradient():
    images = torch.zeros(0, 3, 8, 8, requires_grad=True)
    found = strided.conv2d(images, torch.ones(5, 3, 7, 7), torch.ones(5), 2, 3)
    (slope,) = torch.autograd.grad(found.sum(), images)
    assert slope.shape == (0, 3, 8, 8)


def test_gradcheck():
    torch.manual_seed(0)
    images = torch.randn(1, 2, 6, 4, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(3, 2, 5, 5, dtype=torch.float64), torch.zeros(3).double()
    assert torch.autograd.gradcheck(lambda x: strided.conv2d(x, weight, bias, 2, 2), images)
