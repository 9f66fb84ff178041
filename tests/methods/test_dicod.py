"""DICOD: the values of the method reference, where gradients go, and the edges of a batch."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kd import methods
from kd.config.library import Library
from kd.methods import dicod
from kd.methods.dicod import Dicod, distance, foreground_divergence, scaled_divergence
from kd.methods.ops.spatial_transformer import crops
from kd.observers import Batch, Candidates, observe
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

SIDE = 8
"""Samples along a side of a crop in these tests."""
SMALL = {"pixel_pool": 2, "stage_pools": (2,)}
FAMILIES = ["retinanet", "gfl", "fcos", "atss", "faster_rcnn", "ssd300", "yolov3"]
TERMS = {"loss_dicod_cls", "loss_dicod_loc", "loss_dicod_kd_loc"}


class Classifier(nn.Module):
    """A classifier with two stages, batch normalisation among them."""

    size = SIDE

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU())
        self.fc = nn.Linear(5, classes)
        self.eval().requires_grad_(False)

    def stages(self, objects: Tensor, last: int) -> list[Tensor]:
        stem = self.stem(objects)
        return [stem, self.body(stem)][: last + 1]

    def logits(self, objects: Tensor) -> Tensor:
        return self.fc(self.stages(objects, 1)[1].mean((2, 3)))


def made_batch(images: Tensor, *boxes: list[list[float]]) -> Batch:
    """A batch with boxes, xyxy, of labels 0, 1, ... in each image."""
    samples = [
        SimpleNamespace(
            gt_instances=SimpleNamespace(
                bboxes=torch.tensor(each, dtype=images.dtype).reshape(-1, 4),
                labels=torch.arange(len(each)) % 3,
            )
        )
        for each in boxes
    ]
    return Batch(images, samples)


def student_of(boxes: Tensor, image: list[int], instance: list[int], logits: Tensor) -> Any:
    """What DICOD reads of a student: boxes (P, 4) and logits (P, K) of its candidates."""
    every = Candidates(torch.tensor(image), torch.arange(len(image)), torch.tensor(instance))
    return SimpleNamespace(
        boxes=boxes.requires_grad_(),
        logits=logits.requires_grad_(),
        candidates=every,
        candidate_softmax=logits.shape[1] == 4,
        candidate_boxes=lambda c: boxes[c.index],
        candidate_logits=lambda c: logits[c.index],
    )


@pytest.fixture
def data() -> Batch:
    """Two noise images of 40 x 48 pixels with two objects and one."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 40, 48, generator=generator)
    return made_batch(images, [[4, 4, 24, 30], [20, 10, 44, 36]], [[8, 8, 40, 32]])


@pytest.fixture
def student() -> Any:
    """Five candidates: one of each object, another of the second, and one of background."""
    generator = torch.Generator().manual_seed(1)
    boxes = [[5, 3, 25, 33], [18, 12, 40, 34], [1, 1, 9, 9], [22, 8, 44, 39], [6, 10, 35, 30]]
    logits = torch.randn(5, 3, generator=generator)
    return student_of(torch.tensor(boxes).float(), [0, 0, 0, 0, 1], [0, 1, -1, 1, 2], logits)


def losses(student: Any, data: Batch, teacher: Any = None, **settings: Any) -> dict[str, Tensor]:
    return Dicod(**{**SMALL, **settings}).losses(student, teacher or Classifier(), data, {})


# --- Classes -------------------------------------------------------------------------------

TEACHER, STUDENT = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, 0.0, -1.0]])


def test_golden_value_of_a_softmax_whose_teacher_knows_no_background():
    found = foreground_divergence(TEACHER, STUDENT, 2.0)
    assert found.item() == pytest.approx(1.016835, abs=1e-6)


def test_background_costs_its_own_probability_worked_out_by_hand():
    """(3/4, 1/4) against (3/8, 1/8) and 1/2 of background: the divergence is log 2."""
    teacher = torch.tensor([[3.0, 1.0]]).log()
    student = torch.tensor([[3.0, 1.0, 4.0]]).log()
    assert foreground_divergence(teacher, student, 1.0).item() == pytest.approx(math.log(2))


def test_scaled_sigmoids_worked_out_by_hand():
    """Sigmoids (1/2, 1/2) and (3/4, 1/4): distributions (1/2, 1/2) and (3/4, 1/4)."""
    teacher, student = torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]).logit()
    by_hand = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert scaled_divergence(teacher, student, 1.0).item() == pytest.approx(by_hand)
    assert scaled_divergence(teacher * 2, student * 2, 2.0).item() == pytest.approx(4 * by_hand)


class Fixed(Classifier):
    """Sees the same in every crop."""

    def logits(self, objects: Tensor) -> Tensor:
        return TEACHER.expand(len(objects), 3)


@pytest.mark.parametrize(
    ("logits", "wanted"), [(STUDENT, 1.016835), (STUDENT[:, :3], 0.116766)], ids=["softmax", "bce"]
)
def test_golden_values_of_the_method(data, logits, wanted):
    student = student_of(torch.ones(1, 4), [0], [0], logits.clone())
    found = losses(student, data, Fixed(), lambda_kc=1)["loss_dicod_cls"]
    assert found.item() == pytest.approx(wanted, abs=1e-6)


def test_each_positive_box_learns_what_the_crop_of_its_object_shows(data, student):
    teacher = Classifier()
    truth = torch.cat(data.gt_boxes)
    seen = teacher.logits(crops(data.inputs, torch.tensor([0, 0, 1]), truth, SIDE))
    rows, instances = [0, 1, 3, 4], [0, 1, 1, 2]
    by_hand = 0.0
    for row, instance in zip(rows, instances, strict=True):
        p, q = (seen[instance] / 2).sigmoid(), (student.logits[row] / 2).sigmoid()
        each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        by_hand += 4 * each.mean() / len(rows)
    found = losses(student, data, teacher)["loss_dicod_cls"]
    torch.testing.assert_close(found, 0.4 * by_hand)
    found.backward()
    assert student.logits.grad[2].eq(0).all()
    assert student.logits.grad[rows].ne(0).all()
    assert student.boxes.grad is None


@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("form", ["kl-bce", "kl-ce"])
def test_class_term_is_zero_only_where_it_can_be(data, width, form):
    """A softmax always gives the background something; sigmoids can agree."""
    logits = TEACHER.clone() if width == 3 else torch.cat([TEACHER, torch.zeros(1, 1)], 1)
    student = student_of(torch.ones(1, 4), [0], [0], logits)
    found = losses(student, data, Fixed(), sigmoid=form)["loss_dicod_cls"].item()
    assert found == pytest.approx(0, abs=1e-6) if width == 3 else found > 0.1


@pytest.mark.parametrize("form", [foreground_divergence, scaled_divergence])
def test_gradcheck_of_classes(form):
    generator = torch.Generator().manual_seed(0)
    width = 4 if form is foreground_divergence else 3
    teacher = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    student = torch.randn(5, width, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: form(teacher, s, 2.0), student.requires_grad_())


# --- Localisation --------------------------------------------------------------------------


def test_gradcheck_of_the_distance_of_crops_in_their_boxes():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 2, 12, 12, generator=generator, dtype=torch.float64)
    wanted = torch.rand(2, 2, 4, 4, generator=generator, dtype=torch.float64)
    boxes = torch.tensor([[1.3, 2.1, 7.4, 9.2], [3.3, 0.7, 10.9, 8.6]], dtype=torch.float64)
    rows = torch.tensor([0, 0])
    assert torch.autograd.gradcheck(
        lambda b: distance(crops(image, rows, b, 4), wanted), boxes.requires_grad_()
    )


def test_pixels_worked_out_by_hand():
    """On a ramp, a crop one pixel to the right is brighter by one everywhere."""
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)
    data = made_batch(ramp, [[4, 4, 12, 12], [8, 8, 24, 24]])
    student = student_of(
        torch.tensor([[5.0, 4, 13, 12], [11, 8, 27, 24]]), [0, 0], [0, 1], torch.zeros(2, 3)
    )
    found = losses(student, data, lambda_l=2, lambda_kc=0, lambda_kl=0)
    assert found.keys() == {"loss_dicod_loc"}
    assert found["loss_dicod_loc"].item() == pytest.approx(2 * (1 + 3) / 2, rel=1e-5)
    found["loss_dicod_loc"].backward()
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
        own, wanted = (torch.nn.functional.adaptive_avg_pool2d(each, cells) for each in maps)
        return (own - wanted).abs().sum() / wanted.numel()

    by_layer = [mean_gap(pairs, 2)] + [
        mean_gap([teacher.stages(each, 1)[stage] for each in pairs], cells)
        for stage, cells in enumerate((2, 4))
    ]
    found = losses(student, data, teacher, **settings)
    torch.testing.assert_close(found["loss_dicod_loc"], 0.15 * by_layer[0])
    torch.testing.assert_close(found["loss_dicod_kd_loc"], 0.3 * sum(by_layer[1:]) / 2)
    joined = losses(student, data, teacher, **settings, average="layers")
    torch.testing.assert_close(joined["loss_dicod_loc"], 0.15 * by_layer[0] / 3)
    torch.testing.assert_close(joined["loss_dicod_kd_loc"], 0.3 * sum(by_layer[1:]) / 3)


LOCALISATION = ["loss_dicod_loc", "loss_dicod_kd_loc"]


@pytest.mark.parametrize("term", LOCALISATION)
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
    found = losses(exact, data)
    assert all(found[term].item() == 0 for term in LOCALISATION)
    assert all(losses(student, data)[term].item() > 1e-3 for term in LOCALISATION)


def test_no_gradient_on_a_constant_image(data, student):
    flat = Batch(torch.full_like(data.inputs, 0.7), data.samples)
    found = losses(student, flat)
    sum(found[term] for term in LOCALISATION).backward()
    assert student.boxes.grad.abs().max() < 1e-6
    assert all(found[term].item() == pytest.approx(0, abs=1e-6) for term in LOCALISATION)


def test_chunks_change_nothing(data, student, monkeypatch):
    whole = losses(student, data)
    wanted = torch.autograd.grad(sum(whole.values()), (student.boxes, student.logits))
    monkeypatch.setattr(dicod, "CHUNK", 3)
    parts = losses(student, data)
    torch.testing.assert_close(parts, whole)
    total = sum(parts.values())
    for _ in range(2):  # gradients of each term at the neck are measured before the step
        found = torch.autograd.grad(total, (student.boxes, student.logits), retain_graph=True)
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_term_reaches_the_neck_of_a_detector(build, batch, family):
    detector, data = build(family), batch((3, 0))
    student = observe(detector, data, frozen=False)
    student.losses()
    found = losses(student, data, Classifier(classes=8))
    for term in TERMS:
        options = {"retain_graph": True, "allow_unused": True}
        gradients = torch.autograd.grad(found[term], student.neck, **options)
        assert any(each is not None and each.ne(0).any() for each in gradients)
        assert found[term].isfinite() and found[term] > 0


def test_float32_within_a_percent_where_the_network_ran_in_bfloat16(build, batch):
    detector, data = build(), batch()
    labelled = observe(detector, data, frozen=False)
    labelled.losses()
    torch.manual_seed(0)
    maps = [
        [torch.randn_like(level) * deviation for level in levels]
        for levels, deviation in zip(labelled.outputs, (10, 0.3), strict=True)
    ]
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        student = observe(detector, data, frozen=False)
        student.outputs = [[level.to(dtype) for level in levels] for levels in maps]
        student.assignment = labelled.assignment
        found.append(losses(student, data, Classifier(classes=8)))
    for term in TERMS:
        assert found[1][term].dtype == torch.float32
        torch.testing.assert_close(found[1][term], found[0][term], rtol=0.01, atol=0)


# --- Edges ---------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", [True, False], ids=["none is assigned", "no objects"])
def test_without_positive_candidates_every_term_is_zero_and_attached(data, student, objects):
    if not objects:
        data = made_batch(data.inputs, [], [])
    student.candidates = student.candidates[student.candidates.instance < 0]
    found = losses(student, data)
    assert found.keys() == TERMS
    for value in found.values():
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
    tiny = made_batch(data.inputs, [[4, 4, 4.3, 4.2], [20, 10, 44, 36]], [[8, 8, 40, 32]])
    assert all(value.isfinite() for value in losses(student, tiny).values())


def test_a_batch_counts_its_boxes_not_its_images(data, student):
    """Joined, two images weigh by their numbers of positive boxes, 3 and 1."""
    whole = losses(student, data)
    by_image = []
    for image, shift in ((0, 0), (1, 2)):
        alone = made_batch(data.inputs[image:][:1], data.gt_boxes[image].tolist())
        rows = student.candidates[student.candidates.image == image]
        own = SimpleNamespace(**vars(student))
        instance = torch.where(rows.instance < 0, -1, rows.instance - shift)
        own.candidates = Candidates(rows.image - image, rows.index, instance)
        by_image.append(losses(own, alone))
    for term, value in whole.items():
        torch.testing.assert_close(value, (3 * by_image[0][term] + by_image[1][term]) / 4)


def test_the_classifier_sees_its_own_normalisation(data, student):
    class Picky(Classifier):
        def normalised(self, objects: Tensor, mean: Tensor, std: Tensor) -> Tensor:
            return (objects * std[:, None, None] + mean[:, None, None] - 10) / 50

    mean, std = torch.tensor([1.0, 2, 3]), torch.tensor([50.0, 60, 70])
    raw = data.inputs * std[:, None, None] + mean[:, None, None]
    own = losses(student, Batch((raw - 10) / 50, data.samples))
    found = losses(student, Batch(data.inputs, data.samples, mean=mean, std=std), Picky())
    for term in ("loss_dicod_cls", "loss_dicod_kd_loc"):
        torch.testing.assert_close(found[term], own[term])


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
    found = Library(CONFIGS).preset(preset)
    method = methods.get("dicod").model_validate(found.settings if found else {})
    assert method.needs.teacher == teacher
    own = None if teacher is None else Classifier()
    assert method.losses(student, own, data, {}).keys() == terms


@pytest.mark.parametrize("settings", [{"stages": ()}, {"stages": (0, 1)}, {"crop_size": 0}])
def test_settings_that_do_not_fit_are_refused(settings):
    with pytest.raises(ValidationError):
        Dicod(**settings)


def test_what_is_drawn(data, student):
    focus = Dicod(**SMALL).focus(student, Classifier(), data)
    assert focus.boxes["predicted"].shape == (3, 4)
    assert torch.equal(focus.boxes["object"], data.gt_boxes[0][[0, 1, 1]])
    assert {name: each.shape for name, each in focus.crops.items()} == {
        "predicted": (3, 3, SIDE, SIDE), "object": (3, 3, SIDE, SIDE)
    }  # fmt: skip


# --- The unit of pixels ---------------------------------------------------------------------


@pytest.mark.parametrize("std", [(57.0, 57.0, 57.0), (255.0, 255.0, 255.0), (58.4, 57.1, 57.4)])
def test_the_pixel_term_is_the_same_for_every_normalization_of_the_images(data, student, std):
    """SSD300 divides its images by 1: its gray levels are the published unit."""
    gray = Batch(100 * data.inputs, data.samples, mean=torch.zeros(3), std=torch.ones(3))
    scale = torch.tensor(std)
    other = Batch(gray.inputs / scale[:, None, None], data.samples, mean=torch.zeros(3), std=scale)
    settings = {"lambda_kc": 0, "lambda_kl": 0}
    wanted = losses(student, gray, **settings)["loss_dicod_loc"]
    found = losses(student, other, **settings)["loss_dicod_loc"]
    assert wanted > 0
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)


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
