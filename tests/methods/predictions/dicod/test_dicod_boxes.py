"""DICOD's localization terms: values by hand, gradients of boxes, and the unit of pixels."""

import pytest
import torch
from torch import Tensor

from kd.methods.ops.spatial_transformer import crops
from kd.methods.predictions.dicod import distance
from kd.observers import Batch
from tests.methods.predictions.dicod.dicod_scene import (
    SIDE,
    Classifier,
    labeled_batch,
    losses,
    student_of,
)

torch.set_num_threads(1)


def test_gradcheck_of_the_distance_of_crops_in_their_boxes():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 2, 12, 12, generator=generator, dtype=torch.float64)
    object_crops = torch.rand(2, 2, 4, 4, generator=generator, dtype=torch.float64)
    boxes = torch.tensor([[1.3, 2.1, 7.4, 9.2], [3.3, 0.7, 10.9, 8.6]], dtype=torch.float64)
    rows = torch.tensor([0, 0])
    assert torch.autograd.gradcheck(
        lambda b: distance(crops(image, rows, b, 4), object_crops), boxes.requires_grad_()
    )


def test_pixels_worked_out_by_hand():
    """On a ramp, a crop one pixel to the right is brighter by one everywhere."""
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)
    data = labeled_batch(ramp, [[4, 4, 12, 12], [8, 8, 24, 24]])
    student = student_of(
        torch.tensor([[5.0, 4, 13, 12], [11, 8, 27, 24]]), [0, 0], [0, 1], torch.zeros(2, 3)
    )
    terms = losses(student, data, lambda_l=2, lambda_kc=0, lambda_kl=0)
    assert terms.keys() == {"loss_dicod_loc"}
    assert terms["loss_dicod_loc"].item() == pytest.approx(2 * (1 + 3) / 2, rel=1e-5)
    terms["loss_dicod_loc"].backward()
    assert (student.boxes.grad[:, [0, 2]] > 0).all()  # too far to the right


def test_stages_and_pixels_are_averaged_as_the_code_or_as_one_more_layer(data, student):
    settings = {"stages": (0, 1), "stage_pools": (2, 4), "lambda_kl": 0.3}
    teacher, truth = Classifier(), torch.cat(data.gt_boxes)
    image, instance = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 2])
    pairs = [
        crops(data.inputs, image, boxes, SIDE)
        for boxes in (student.boxes[[0, 1, 3, 4]], truth[instance])
    ]

    def mean_gap(maps: list[Tensor], cells: int) -> Tensor:
        predicted, objects = (torch.nn.functional.adaptive_avg_pool2d(m, cells) for m in maps)
        return (predicted - objects).abs().sum() / objects.numel()

    by_layer = [mean_gap(pairs, 2)] + [
        mean_gap([teacher.stages(crop, 1)[stage] for crop in pairs], cells)
        for stage, cells in enumerate((2, 4))
    ]
    terms = losses(student, data, teacher, **settings)
    torch.testing.assert_close(terms["loss_dicod_loc"], 0.15 * by_layer[0])
    torch.testing.assert_close(terms["loss_dicod_kd_loc"], 0.3 * sum(by_layer[1:]) / 2)
    over_layers = losses(student, data, teacher, **settings, average="layers")
    torch.testing.assert_close(over_layers["loss_dicod_loc"], 0.15 * by_layer[0] / 3)
    torch.testing.assert_close(over_layers["loss_dicod_kd_loc"], 0.3 * sum(by_layer[1:]) / 3)


LOCALIZATION = ["loss_dicod_loc", "loss_dicod_kd_loc"]


@pytest.mark.parametrize("term", LOCALIZATION)
def test_gradients_reach_the_boxes_of_positive_candidates_and_nothing_else(data, student, term):
    teacher = Classifier()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    losses(student, data, teacher)[term].backward()
    assert student.boxes.grad[[0, 1, 3, 4]].ne(0).all()
    assert student.boxes.grad[2].eq(0).all()
    assert student.logits.grad is None
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_box_equal_to_its_object_costs_nothing(data, student):
    truth = torch.cat(data.gt_boxes)
    exact = student_of(truth.clone(), [0, 0, 1], [0, 1, 2], torch.zeros(3, 3))
    terms = losses(exact, data)
    assert all(terms[term].item() == 0 for term in LOCALIZATION)
    assert all(losses(student, data)[term].item() > 1e-3 for term in LOCALIZATION)


def test_no_gradient_on_a_constant_image(data, student):
    flat = Batch(torch.full_like(data.inputs, 0.7), data.samples)
    terms = losses(student, flat)
    sum(terms[term] for term in LOCALIZATION).backward()
    assert student.boxes.grad.abs().max() < 1e-6
    assert all(terms[term].item() == pytest.approx(0, abs=1e-6) for term in LOCALIZATION)


# --- Unit of pixels ------------------------------------------------------------------------


@pytest.mark.parametrize("std", [(57.0, 57.0, 57.0), (255.0, 255.0, 255.0), (58.4, 57.1, 57.4)])
def test_the_pixel_term_is_the_same_for_every_normalization_of_the_images(data, student, std):
    """SSD300 divides its images by 1: its gray levels are the published unit."""
    gray = Batch(100 * data.inputs, data.samples, mean=torch.zeros(3), std=torch.ones(3))
    scale = torch.tensor(std)
    normalized = Batch(
        gray.inputs / scale[:, None, None], data.samples, mean=torch.zeros(3), std=scale
    )
    settings = {"lambda_kc": 0, "lambda_kl": 0}
    expected = losses(student, gray, **settings)["loss_dicod_loc"]
    term = losses(student, normalized, **settings)["loss_dicod_loc"]
    assert expected > 0
    torch.testing.assert_close(term, expected, rtol=1e-5, atol=0)


def test_images_divided_by_one_have_the_same_term_in_either_unit(data, student):
    gray = Batch(100 * data.inputs, data.samples, mean=torch.zeros(3), std=torch.ones(3))
    settings = {"lambda_kc": 0, "lambda_kl": 0}
    units = "gray_level", "normalized"
    pair = [losses(student, gray, pixel_unit=unit, **settings) for unit in units]
    assert all(torch.equal(value, pair[1][term]) for term, value in pair[0].items())


def test_in_the_unit_of_normalized_images_the_term_depends_on_the_detector(data, student):
    settings = {"lambda_kc": 0, "lambda_kl": 0, "pixel_unit": "normalized"}
    pair = [
        losses(student, Batch(100 * data.inputs / std, data.samples), **settings)["loss_dicod_loc"]
        for std in (1, 57)
    ]
    torch.testing.assert_close(pair[0], 57 * pair[1], rtol=1e-5, atol=0)
