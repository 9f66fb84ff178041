"""TADF: the Gaussian mask, class and box outputs of regions, and the decay."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from kd.methods.features.tadf import TaskAdaptive, binary_entropy, box_distance, decay, gaussian
from kd.observers import OBSERVABLE, Candidates, Channels, TwoStageObservation
from tests.methods.scenes import SecondStage, batch_of, maps, total, view

torch.set_num_threads(1)

ONLY = {"feature_weight": 0.0, "classification_weight": 0.0, "regression_weight": 0.0}
CLS = {**ONLY, "classification_weight": 1.0}
REG = {**ONLY, "regression_weight": 1.0}
NECK = {**ONLY, "feature_weight": 1.0, "adaptation": "none"}


def losses(student: object, teacher: object, batch: object, adapters: object = (), **settings):
    return TaskAdaptive(**settings).losses(student, teacher, batch, adapters)


# --- The mask ----------------------------------------------------------------------------------


def box(height: int, width: int, sigma_squared: float) -> Tensor:
    """Return the mask of a box of ``height`` x ``width`` cells."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return gaussian(rows, columns, torch.tensor(height), torch.tensor(width), sigma_squared)


def test_golden_gaussian():
    """0.367879 = e^-1; 0.535261 = e^(-5/8); the center is half the size, so not symmetric."""
    expected = [[0.367879, 0.535261, 0.606531, 0.535261], [0.606531, 0.882497, 1.0, 0.882497]]
    torch.testing.assert_close(box(2, 4, 2.0), torch.tensor(expected), atol=1e-6, rtol=0)


def test_gaussian_by_hand():
    """Three columns: offsets -1, -1/3 and 1/3 of the half width; one row: offset -1."""
    expected = [math.exp(-(x**2) / 3) * math.exp(-1 / 3) for x in (-1, -1 / 3, 1 / 3)]
    assert box(1, 3, 3.0)[0].tolist() == pytest.approx(expected)
    assert box(1, 1, 2.0).tolist() == [[1.0]]


def masks(batch: object) -> list[Tensor]:
    return TaskAdaptive()._masks(view(maps(0)), batch)


def test_mask_of_a_level():
    """16 x 32 pixels at (16, 8) are 2 x 4 cells of the finer level; elsewhere 0."""
    fine, coarse = masks(batch_of([[16, 8, 48, 24]], []))
    assert torch.equal(fine[0, 1:3, 2:6], box(2, 4, 2.0))
    assert fine.count_nonzero() == 8
    assert not coarse.any()


def test_overlapping_objects_keep_the_larger_value():
    one, two = [16, 8, 48, 24], [8, 0, 80, 64]
    both, first, second = (masks(batch_of(boxes))[0] for boxes in ([one, two], [one], [two]))
    assert torch.equal(both, torch.maximum(first, second))
    assert both.min() >= 0 and both.max() <= 1


def test_an_object_smaller_than_a_cell_gets_one():
    fine, _ = masks(batch_of([[17, 9, 18, 10]]))
    assert fine.sum() == fine[0, 1, 2] == 1


# --- The neck ----------------------------------------------------------------------------------

OBJECT = batch_of([[16, 8, 48, 24]], [])


def test_the_neck_term_by_hand():
    """All differences are 2 on 5 channels: 4 x 5 / 2 for any mask, divided by two levels."""
    student = view([level * 0 for level in maps(0)])
    teacher = view([level * 0 + 2 for level in maps(0)])
    fine, coarse = losses(student, teacher, OBJECT, **NECK)["loss_tadf_neck"]
    assert fine.item() == pytest.approx(4 * 5 / 2 / 2)
    assert coarse.item() == 0


def test_the_neck_term_weights_squares_by_the_mask():
    student, teacher = view(maps(0), gradients=True), view(maps(1))
    fine, _ = losses(student, teacher, OBJECT, **NECK)["loss_tadf_neck"]
    mask = masks(OBJECT)[0]
    squares = (student.neck[0] - teacher.neck[0]).square().sum(1)
    torch.testing.assert_close(fine, (mask * squares).sum() / mask.sum() / 2 / 2)
    fine.backward()
    assert torch.equal(student.neck[0].grad.ne(0).all(1), mask > 0)


def test_equal_necks_cost_nothing():
    assert total(losses(view(maps(0)), view(maps(0)), OBJECT, **NECK)).item() == 0


@pytest.mark.parametrize("boxes", [[], [[16, 8, 48, 24]]])
def test_adapters_always_get_a_gradient(boxes):
    method = TaskAdaptive(classification_weight=0, regression_weight=0)
    layers = nn.ModuleDict(method.adapters(Channels([5, 5], []), Channels([7, 7], [])))
    loss = total(method.losses(view(maps(0)), view(maps(1, 7)), batch_of(boxes, []), layers))
    loss.backward()
    assert (loss.item() > 0) == bool(boxes)
    assert len(layers) == 2
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layers.parameters())
    assert not TaskAdaptive(feature_weight=0).adapters(Channels([5], []), Channels([7], []))


def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps):
    for adaptation in ("none", "3x3"):
        full, rounded = distil_random_maps(TaskAdaptive(**{**NECK, "adaptation": adaptation}))
        assert total(full) > 0 and total(rounded).dtype == torch.float32
        torch.testing.assert_close(total(rounded), total(full), rtol=0.01, atol=0)


# --- Classification ----------------------------------------------------------------------------


def test_binary_entropy_by_hand():
    """Teacher (3/4, 1/4), student (1/2, 1/2): each class costs log 2."""
    teacher, student = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    assert binary_entropy(teacher, student).item() == pytest.approx(math.log(2))
    by_hand = -(0.5 * math.log(0.75) + 0.5 * math.log(0.25))
    assert binary_entropy(student, teacher).item() == pytest.approx(by_hand)


def test_binary_entropy_is_that_of_softmax_probabilities():
    teacher, student = torch.randn(2, 7, 5, dtype=torch.float64) * 3
    expected = binary_cross_entropy(student.softmax(1), teacher.softmax(1))
    torch.testing.assert_close(binary_entropy(teacher, student).mean(), expected)


def test_the_least_entropy_is_the_teachers_own():
    teacher, student = torch.randn(2, 7, 5, dtype=torch.float64)
    least = binary_entropy(teacher, teacher)
    assert (binary_entropy(teacher, student) > least).all()
    student = teacher.clone().requires_grad_()
    binary_entropy(teacher, student).sum().backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(student), atol=1e-12, rtol=0)


def test_entropy_of_sure_logits_is_finite_and_has_the_right_gradient():
    """Student sure of class 0, teacher of class 1: both logarithms are about -200."""
    student = torch.tensor([[100.0, -100.0, -300.0]], requires_grad=True)
    loss = binary_entropy(torch.tensor([[-50.0, 50.0, 0.0]]), student)
    loss.sum().backward()
    assert loss.item() == pytest.approx((200 + 200) / 3)
    assert student.grad.tolist()[0] == pytest.approx([2 / 3, -2 / 3, 0], abs=1e-6)


def test_gradchecks():
    teacher, student, truth = torch.randn(3, 4, 4, dtype=torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: binary_entropy(teacher, s), student)
    for kind in ("l1", "l2", "nearest"):
        assert torch.autograd.gradcheck(
            lambda s, k=kind: box_distance(s, teacher, truth, k), student
        )


# --- Regions -----------------------------------------------------------------------------------

TRUTH = [10.0, 10.0, 30.0, 30.0]
LABELED = batch_of([TRUTH], [TRUTH], labels=[[1], [0]])
ROIS = torch.tensor(
    [[0, 10, 10, 30, 20], [0, 10, 10, 30, 30], [0, 50, 50, 60, 60], [1, 10, 15, 30, 30]]
).float()
"""IoUs with the object of 1/2, 1, none, and 3/4."""
CANDIDATES = Candidates(
    torch.tensor([0, 0, 0, 1]), torch.arange(4), torch.tensor([0, 0, -1, 1]), ROIS
)


def stage(seed: int, boxes: list[list[float]] | None = None, gradients: bool = False):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 3, generator=generator)
    codes = torch.randn(4, 4, generator=generator)
    for outputs in (logits, codes):
        outputs.requires_grad_(gradients)
    boxes = torch.tensor(boxes or [TRUTH] * 4)
    return SecondStage(logits, codes, boxes, CANDIDATES)


@pytest.mark.parametrize(
    ("classified", "rows"),
    [("foreground", [0, 1, 3]), ("all", [0, 1, 2, 3]), ("teacher_correct", [0, 2])],
)
def test_regions_that_teach_classes(classified, rows):
    """Classes: 1, 1, background (2) and 0; the teacher ranks 1, 0, 2 and 2 first."""
    student, teacher = stage(0, gradients=True), stage(1, gradients=True)
    with torch.no_grad():
        teacher.logits[torch.arange(4), [1, 0, 2, 2]] = 9.0
    loss = losses(student, teacher, LABELED, **{**CLS, "classified": classified})["loss_tadf_cls"]
    expected = binary_entropy(teacher.logits[rows], student.logits[rows]).mean()
    torch.testing.assert_close(loss, expected.detach())
    loss.backward()
    assert student.logits.grad.ne(0).any(1).nonzero().flatten().tolist() == rows
    assert teacher.logits.grad is None


def test_the_teachers_box_teaches_only_where_it_improves_on_the_region():
    """Its IoUs and those of the regions: 0.6 and 1/2, 0.95 and 1, background, 0.6 and 3/4."""
    teacher_boxes = [[10, 10, 30, 22], [10, 10, 30, 29], TRUTH, [10, 10, 30, 22]]
    student, teacher = stage(0, gradients=True), stage(1, teacher_boxes, gradients=True)
    loss = losses(student, teacher, LABELED, **REG)["loss_tadf_reg"]
    expected = (student.codes[0] - teacher.codes[0]).abs().mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert student.codes.grad.ne(0).any(1).tolist() == [True, False, False, False]
    assert teacher.codes.grad is None
    taught = TaskAdaptive(**REG).focus(student, teacher, LABELED).boxes["improved RoIs"]
    assert taught.tolist() == [ROIS[0, 1:].tolist()]


def test_nothing_is_taught_where_the_teacher_improves_on_no_region():
    student, teacher = stage(0, gradients=True), stage(1, ROIS[:, 1:].tolist())
    loss = losses(student, teacher, LABELED, **REG)["loss_tadf_reg"]
    loss.backward()
    assert loss.item() == 0
    assert student.codes.grad.eq(0).all()


def test_distances_of_boxes_by_hand():
    """Differences are 1 and 3 from the teacher, (1 + 3) / 4, and 0.5 each from the truth."""
    student = torch.zeros(1, 4)
    teacher = torch.tensor([[1.0, -3.0, 0, 0]])
    truth = torch.full((1, 4), 0.5)
    distances = {
        k: box_distance(student, teacher, truth, k).item() for k in ("l1", "l2", "nearest")
    }
    assert distances == pytest.approx({"l1": 1.0, "l2": 2.5, "nearest": 0.5})
    assert box_distance(student, teacher, 9 * truth, "nearest").item() == pytest.approx(1.0)


@pytest.mark.parametrize("settings", [CLS, {**CLS, "classified": "all"}, REG])
def test_without_regions_an_attached_zero(settings):
    student, teacher = stage(0, gradients=True), stage(1)
    student.candidates = CANDIDATES[CANDIDATES.index < 0]
    loss = total(losses(student, teacher, LABELED, **settings))
    loss.backward()
    assert loss.item() == 0


# --- Decay, settings, and a detector ------------------------------------------------------------


def test_decay_from_one_to_the_last_epochs_fraction():
    assert [decay(epoch, 4) for epoch in range(4)] == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("settings", [NECK, CLS, REG])
def test_every_term_decays_unless_decay_is_off(settings):
    student, teacher = stage(0), stage(1)
    for seed, model in enumerate((student, teacher)):
        vars(model).update(vars(view(maps(seed))))
    first, last = (batch_of([TRUTH], [TRUTH], labels=[[1], [0]], epoch=e) for e in (0, 3))
    start, end = (total(losses(student, teacher, batch, **settings)) for batch in (first, last))
    assert start > 0
    torch.testing.assert_close(end, start / 4)
    without_decay = total(losses(student, teacher, last, **{**settings, "decay": False}))
    torch.testing.assert_close(without_decay, start)


def test_needs_of_each_kind_of_detector():
    alone = TaskAdaptive(**TaskAdaptive.defaults(two_stage=False)).needs
    assert alone.both == {"neck"}
    both = TaskAdaptive(**TaskAdaptive.defaults(two_stage=True)).needs
    assert both.both == {"neck", "candidates", "rois"} <= OBSERVABLE["two_stage"]
    assert TaskAdaptive(**CLS).needs.both == {"candidates", "rois"}


@pytest.mark.parametrize("boxes", [(3, 2), (1, 0), (0, 0)])
def test_a_detector_of_two_stages(build, batch, boxes):
    data = batch(boxes)
    student = TwoStageObservation(build("faster_rcnn"), data, frozen=False)
    teacher = TwoStageObservation(build("faster_rcnn", seed=1).eval(), data, frozen=True)
    student.losses()
    method = TaskAdaptive()
    channels = Channels([16] * 5, [])
    layers = nn.ModuleDict(method.adapters(channels, channels))
    terms = method.losses(student, teacher, data, layers)
    loss = total(terms)
    assert set(terms) == {"loss_tadf_neck", "loss_tadf_cls", "loss_tadf_reg"}
    assert loss.isfinite() and (loss > 0) == any(boxes)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in layers.parameters())
    assert all(p.grad is None for p in teacher.detector.parameters())
    focus = method.focus(student, teacher, data)
    assert len(focus.maps) == 5 and focus.boxes["improved RoIs"].shape[1] == 4
