"""DICOD as a whole: on detectors, at the edges of a batch, and its settings."""

from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from kd import methods
from kd.config.library import Library
from kd.methods.predictions import dicod
from kd.methods.predictions.dicod import Dicod
from kd.observers import Batch, Candidates, observe
from tests.methods.predictions.dicod.dicod_scene import (
    SIDE,
    SMALL,
    TERMS,
    Classifier,
    labeled_batch,
    losses,
    student_of,
)
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

FAMILIES = ["retinanet", "gfl", "fcos", "atss", "faster_rcnn", "ssd300", "yolov3"]


def test_chunks_change_nothing(data, student, monkeypatch):
    whole = losses(student, data)
    expected = torch.autograd.grad(sum(whole.values()), (student.boxes, student.logits))
    monkeypatch.setattr(dicod, "CROPS_AT_ONCE", 3)
    parts = losses(student, data)
    torch.testing.assert_close(parts, whole)
    total = sum(parts.values())
    for _ in range(2):  # gradients of each term at the neck are measured before the step
        gradients = torch.autograd.grad(total, (student.boxes, student.logits), retain_graph=True)
        torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_term_reaches_the_neck_of_a_detector(build, batch, family):
    detector, data = build(family), batch((3, 0))
    student = observe(detector, data, frozen=False)
    student.losses()
    terms = losses(student, data, Classifier(classes=8))
    for term in TERMS:
        options = {"retain_graph": True, "allow_unused": True}
        gradients = torch.autograd.grad(terms[term], student.neck, **options)
        assert any(gradient is not None and gradient.ne(0).any() for gradient in gradients)
        assert terms[term].isfinite() and terms[term] > 0


def test_float32_within_a_percent_where_the_network_ran_in_bfloat16(build, batch):
    detector, data = build(), batch()
    labeled = observe(detector, data, frozen=False)
    labeled.losses()
    torch.manual_seed(0)
    maps = [
        [torch.randn_like(level) * deviation for level in levels]
        for levels, deviation in zip(labeled.outputs, (10, 0.3), strict=True)
    ]
    losses_by_type = []
    for dtype in (torch.float32, torch.bfloat16):
        student = observe(detector, data, frozen=False)
        student.outputs = [[level.to(dtype) for level in levels] for levels in maps]
        student.assignment = labeled.assignment
        losses_by_type.append(losses(student, data, Classifier(classes=8)))
    for term in TERMS:
        assert losses_by_type[1][term].dtype == torch.float32
        torch.testing.assert_close(
            losses_by_type[1][term], losses_by_type[0][term], rtol=0.01, atol=0
        )


# --- Edges ---------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", [True, False], ids=["none is assigned", "no objects"])
def test_without_positive_candidates_every_term_is_zero_and_attached(data, student, objects):
    if not objects:
        data = labeled_batch(data.inputs, [], [])
    student.candidates = student.candidates[student.candidates.instance < 0]
    terms = losses(student, data)
    assert terms.keys() == TERMS
    for value in terms.values():
        assert value.item() == 0
        value.backward(retain_graph=True)
    assert student.boxes.grad.eq(0).all() and student.logits.grad.eq(0).all()


@pytest.mark.parametrize(
    "box", [[5.0, 5, 5.2, 5.1], [-30, -30, -20, -20], [100, 90, 140, 120], [-1e30, 0, 1e30, 9]],
    ids=["smaller than a pixel", "before the image", "beyond it", "endless"],
)  # fmt: skip
def test_finite_for_any_box(data, box):
    student = student_of(torch.tensor([box]).float(), [0], [0], torch.zeros(1, 3))
    total = sum(losses(student, data).values())
    total.backward()
    assert total.isfinite() and student.boxes.grad.isfinite().all()


def test_an_object_smaller_than_a_pixel(data, student):
    tiny = labeled_batch(data.inputs, [[4, 4, 4.3, 4.2], [20, 10, 44, 36]], [[8, 8, 40, 32]])
    assert all(value.isfinite() for value in losses(student, tiny).values())


def test_a_batch_counts_its_boxes_not_its_images(data, student):
    """Two images in a batch weigh by their numbers of positive boxes, 3 and 1."""
    whole = losses(student, data)
    by_image = []
    for image, shift in ((0, 0), (1, 2)):
        alone = labeled_batch(data.inputs[image:][:1], data.gt_boxes[image].tolist())
        rows = student.candidates[student.candidates.image == image]
        student_of_image = SimpleNamespace(**vars(student))
        instance = torch.where(rows.instance < 0, -1, rows.instance - shift)
        student_of_image.candidates = Candidates(rows.image - image, rows.index, instance)
        by_image.append(losses(student_of_image, alone))
    for term, value in whole.items():
        torch.testing.assert_close(value, (3 * by_image[0][term] + by_image[1][term]) / 4)


def test_crops_are_normalized_for_the_classifier(data, student):
    class Picky(Classifier):
        def normalized(self, objects: Tensor, mean: Tensor, std: Tensor) -> Tensor:
            return (objects * std[:, None, None] + mean[:, None, None] - 10) / 50

    mean, std = torch.tensor([1.0, 2, 3]), torch.tensor([50.0, 60, 70])
    raw = data.inputs * std[:, None, None] + mean[:, None, None]
    expected = losses(student, Batch((raw - 10) / 50, data.samples))
    terms = losses(student, Batch(data.inputs, data.samples, mean=mean, std=std), Picky())
    for term in ("loss_dicod_cls", "loss_dicod_kd_loc"):
        torch.testing.assert_close(terms[term], expected[term])


# --- Settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "terms", "teacher"),
    [
        ("dicod", TERMS, "classifier"),
        ("dicod_cls", {"loss_dicod_cls"}, "classifier"),
        ("dicod_loc", {"loss_dicod_loc"}, None),
        ("dicod_loc_kd", {"loss_dicod_loc", "loss_dicod_kd_loc"}, "classifier"),
        ("dicod_l0", {"loss_dicod_kd_loc"}, "classifier"),
        ("dicod_l0_l1", {"loss_dicod_loc", "loss_dicod_kd_loc"}, "classifier"),
    ],
)
def test_the_columns_of_tables_1_and_4c(data, student, preset, terms, teacher):
    shipped = Library(CONFIGS).presets.get(preset)
    method = methods.get("dicod").model_validate(shipped.settings if shipped else {})
    assert method.needs.teacher == teacher
    classifier = None if teacher is None else Classifier()
    assert method.losses(student, classifier, data, {}).keys() == terms


@pytest.mark.parametrize("settings", [{"stages": ()}, {"stages": (0, 1)}, {"crop_size": 0}])
def test_settings_that_do_not_fit_are_refused(settings):
    with pytest.raises(ValidationError):
        Dicod(**settings)


def test_focus_has_boxes_and_crops_of_predictions_and_objects(data, student):
    focus = Dicod(**SMALL).focus(student, Classifier(), data)
    assert focus.boxes["predicted boxes"].shape == (3, 4)
    assert torch.equal(focus.boxes["objects"], data.gt_boxes[0][[0, 1, 1]])
    assert {name: tensor.shape for name, tensor in focus.crops.items()} == {
        "predicted boxes": (3, 3, SIDE, SIDE), "objects": (3, 3, SIDE, SIDE)
    }  # fmt: skip
