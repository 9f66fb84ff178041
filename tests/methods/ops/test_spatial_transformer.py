"""Spatial transformer: golden matrices, exact pixels, gradients of boxes."""

import pytest
import torch

from kd.methods.ops.spatial_transformer import affine, crops

torch.set_num_threads(1)


def test_golden_matrices():
    matrices = affine(torch.tensor([[30.0, 40, 150, 120], [0, 0, 300, 200]]), 300, 200)
    torch.testing.assert_close(matrices[0], torch.tensor([[0.4, 0, -0.4], [0, 0.4, -0.2]]))
    torch.testing.assert_close(matrices[1], torch.eye(3)[:2])


def test_the_whole_image_at_its_own_size_is_itself_and_a_half_its_pixels():
    image = torch.rand(2, 3, 6, 6)
    whole = crops(image, torch.tensor([1, 0]), torch.tensor([[0.0, 0, 6, 6]]).repeat(2, 1), 6)
    torch.testing.assert_close(whole, image.flip(0))
    part = crops(image, torch.tensor([0]), torch.tensor([[3.0, 0, 6, 3]]), 3)
    torch.testing.assert_close(part[0], image[0, :, :3, 3:])


def test_rows_keep_their_order_whatever_image_they_are_of():
    images = torch.rand(3, 2, 9, 9)
    image = torch.tensor([2, 0, 2, 0])
    boxes = torch.tensor([[1.0, 2, 5, 6], [0, 0, 9, 9], [3, 3, 7, 8], [2, 1, 4, 4]])
    samples = crops(images, image, boxes, 4)
    for row in range(4):
        alone = crops(images[image[row] :][:1], torch.tensor([0]), boxes[row : row + 1], 4)
        torch.testing.assert_close(samples[row : row + 1], alone)


def test_boxes_are_clamped_to_the_padded_image():
    image = torch.rand(1, 3, 10, 20)
    outside, inside = torch.tensor([[-5.0, -3, 30, 15]]), torch.tensor([[0.0, 0, 20, 10]])
    none = torch.tensor([0])
    torch.testing.assert_close(crops(image, none, outside, 5), crops(image, none, inside, 5))


def test_the_crop_of_a_ramp_grows_as_the_box_slides():
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    boxes = torch.tensor([[4.0, 4, 12, 12]]).requires_grad_()
    samples = crops(ramp, torch.tensor([0]), boxes, 8)
    assert samples.mean().item() == pytest.approx(8 - 0.5)  # the center of pixel 0 lies at 0.5
    samples.mean().backward()
    torch.testing.assert_close(boxes.grad, torch.tensor([[0.5, 0, 0.5, 0]]), atol=1e-5, rtol=0)
