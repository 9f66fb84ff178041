"""Soft labels: values of the method reference, and properties."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.terms import check_readable, resolve
from kd.methods.ops.candidates import labels_of
from kd.methods.ops.divergences import bernoulli_divergence, categorical_divergence
from kd.methods.predictions.soft_labels import SoftLabels
from kd.observers import Batch, Candidates
from tests.methods.scenes import make_batch
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

TEACHER, STUDENT = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, 0.0]])
FORMS = [bernoulli_divergence, categorical_divergence]


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    """Return logits (6, 4) of teacher and student."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 6, 4, generator=generator, dtype=torch.float64))


# --- Golden values -------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "expected"), [(1, 0.379738), (2, 0.488732)])
def test_golden_value_of_a_softmax(temperature, expected):
    divergence = categorical_divergence(TEACHER, STUDENT, temperature)
    assert divergence.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(1, 0.099396), (2, 0.116766)])
def test_golden_value_of_sigmoids(temperature, expected):
    divergence = bernoulli_divergence(TEACHER, STUDENT, temperature)
    assert divergence.item() == pytest.approx(expected, abs=1e-6)


def test_golden_value_of_each_sigmoid():
    divergences = bernoulli_divergence(TEACHER.T, STUDENT.T, 1)
    assert divergences.tolist() == pytest.approx([0.067131, 0.120115, 0.110944], abs=1e-6)


def test_sigmoids_at_temperature_two_worked_out_by_hand():
    """sigmoid(2 log 3 / 2) = 3/4 and sigmoid(0 / 2) = 1/2."""
    teacher, student = torch.tensor([[2 * math.log(3)]]), torch.zeros(1, 1)
    by_hand = 2**2 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert bernoulli_divergence(teacher, student, 2).item() == pytest.approx(by_hand, abs=1e-6)


def test_a_softmax_worked_out_by_hand():
    """Distributions (2/3, 1/3) and (1/2, 1/2)."""
    teacher, student = torch.tensor([[math.log(2), 0.0]]), torch.zeros(1, 2)
    by_hand = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert categorical_divergence(teacher, student, 1).item() == pytest.approx(by_hand, abs=1e-6)


# --- Properties ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_zero_for_equal_distributions_and_only_for_them(form, logits):
    teacher, student = logits
    torch.testing.assert_close(form(teacher, teacher, 3.0), torch.zeros(6, dtype=torch.float64))
    assert (form(teacher, student, 3.0) > 1e-3).all()


@pytest.mark.parametrize("model", [0, 1], ids=["teacher", "student"])
def test_a_constant_per_row_changes_sigmoids_but_no_softmax(model, logits):
    shifted = list(logits)
    shifted[model] = shifted[model] + torch.linspace(1, 5, 6)[:, None]
    torch.testing.assert_close(
        categorical_divergence(*shifted, 2.0), categorical_divergence(*logits, 2.0)
    )
    difference = bernoulli_divergence(*shifted, 2.0) - bernoulli_divergence(*logits, 2.0)
    assert (difference.abs() > 0.01).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_temperature_divides_logits_and_its_square_multiplies(form, logits):
    teacher, student = logits
    torch.testing.assert_close(
        form(teacher, student, 2.5), 2.5**2 * form(teacher / 2.5, student / 2.5, 1)
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_teacher_gets_no_gradient(form, logits):
    teacher, student = (tensor.clone().requires_grad_() for tensor in logits)
    form(teacher, student, 2.0).sum().backward()
    assert teacher.grad is None
    assert student.grad.ne(0).all()


def test_gradient_is_that_of_binary_cross_entropy(logits):
    teacher, student = logits
    student.requires_grad_()
    (ours,) = torch.autograd.grad(bernoulli_divergence(teacher, student, 1).mean(), student)
    entropy = binary_cross_entropy_with_logits(student, teacher.sigmoid())
    torch.testing.assert_close(ours, torch.autograd.grad(entropy, student)[0])
    assert binary_cross_entropy_with_logits(teacher, teacher.sigmoid()) > 0.1


@pytest.mark.parametrize("form", FORMS)
def test_extreme_logits_stay_finite(form):
    student = torch.tensor([[-300.0, 300.0, 0.0]], requires_grad=True)
    loss = form(torch.tensor([[300.0, -300.0, 300.0]]), student, 1.0).sum()
    loss.backward()
    assert loss.isfinite()
    assert loss > 100
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(form, logits):
    teacher, student = logits
    assert torch.autograd.gradcheck(lambda s: form(teacher, s, 2.0), student.requires_grad_())


# --- The method on two observations --------------------------------------------------------

IMAGE = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
INSTANCE = torch.tensor([1, -1, 0, -1, -1, -1, -1, 2])
LABELS = [torch.tensor([3, 1]), torch.tensor([0])]
POSITIVE = INSTANCE >= 0


@pytest.fixture
def models() -> tuple[SimpleNamespace, SimpleNamespace]:
    """Return student and teacher: two images of 4 candidates, three positive, 5 outputs."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 8, 5, generator=generator)
    return view(student.requires_grad_()), view(teacher)


def view(logits: Tensor, softmax: bool = False, instance: Tensor = INSTANCE) -> SimpleNamespace:
    """Return an observation of candidates with logits (P, K)."""
    return SimpleNamespace(
        logits=logits,
        candidates=Candidates(IMAGE, torch.arange(8), instance),
        candidate_softmax=softmax,
        level_priors=[torch.zeros(8, 4)],
        candidate_logits=lambda candidates: logits[candidates.index],
        candidate_boxes=lambda candidates: candidates.index,
    )


def batch_of(labels: list[Tensor]) -> Batch:
    boxes = [torch.zeros(len(image_labels), 4) for image_labels in labels]
    return make_batch(torch.zeros(len(labels), 3, 1, 1), boxes, labels)


BATCH = batch_of(LABELS)


def loss_of(models: tuple[SimpleNamespace, SimpleNamespace], **settings: object) -> Tensor:
    (loss,) = SoftLabels(**settings).losses(*models, BATCH, {}).values()
    return loss


def test_mean_over_positive_candidates_of_the_batch(models):
    student, teacher = (model.logits[POSITIVE] for model in models)
    assert len(student) == 3
    expected = bernoulli_divergence(teacher, student, 2).sum() / 3
    torch.testing.assert_close(loss_of(models, temperature=2, weight=5), 5 * expected)


@pytest.mark.parametrize("softmax", [False, True], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize(
    ("boxes", "selected"),
    [("positive", POSITIVE), ("negative", ~POSITIVE), ("all", torch.full((8,), True))],
)
def test_only_chosen_candidates_count_and_get_a_gradient(models, boxes, selected, softmax):
    logits = models[0].logits
    student, teacher = view(logits, softmax), view(models[1].logits, softmax)
    loss = loss_of((student, teacher), boxes=boxes)
    form = categorical_divergence if softmax else bernoulli_divergence
    torch.testing.assert_close(loss, form(teacher.logits[selected], logits[selected], 1).mean())
    loss.backward()
    assert torch.equal(logits.grad.ne(0).all(1), selected)
    assert logits.grad[~selected].eq(0).all()


@pytest.mark.parametrize(
    ("softmax", "right"), [(True, [0, 1, 6]), (False, [0])], ids=["softmax", "sigmoid"]
)
def test_the_boxes_that_the_teacher_classifies_right(models, softmax, right):
    """Candidates 0, 2 and 7 have labels 1, 3 and 0; background is output 4 of a softmax."""
    likeliest = torch.tensor([1, 4, 0, 2, 0, 3, 4, 4])
    teacher = view(torch.nn.functional.one_hot(likeliest, 5).float(), softmax)
    student = view(models[0].logits, softmax)
    loss_of((student, teacher), boxes="teacher_correct").backward()
    touched = student.logits.grad.ne(0).any(1).nonzero().flatten()
    assert touched.tolist() == right


def test_labels_of_candidates_with_and_without_objects(models):
    assert labels_of(models[0].candidates, BATCH, 7).tolist() == [1, 7, 3, 7, 7, 7, 7, 0]
    nothing = Candidates(IMAGE, torch.arange(8), torch.full((8,), -1))
    empty = batch_of([torch.zeros(0, dtype=torch.long)] * 2)
    assert labels_of(nothing, empty, 7).tolist() == [7] * 8


def test_equal_models_cost_nothing(models):
    student, _ = models
    assert loss_of((student, view(student.logits.detach()))).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("boxes", ["positive", "teacher_correct"])
def test_without_a_chosen_candidate_the_loss_is_zero_and_finite(models, boxes):
    nothing = torch.full((8,), -1)
    student, teacher = (view(model.logits, instance=nothing) for model in models)
    loss = loss_of((student, teacher), boxes=boxes)
    loss.backward()
    assert loss.item() == 0
    assert student.logits.grad.eq(0).all()


def test_only_boxes_of_the_first_image_are_drawn(models):
    assert SoftLabels().focus(*models, BATCH).boxes["positive boxes"].tolist() == [0, 2]


# --- Variants ------------------------------------------------------------------------------


@pytest.mark.parametrize(("softmax", "usual"), [(False, "mean"), (True, "sum")])
def test_classes_are_summed_or_averaged(models, softmax, usual):
    both = tuple(view(model.logits, softmax) for model in models)
    loss_by_reduction = {
        reduction: loss_of(both, over_classes=reduction).item()
        for reduction in ("sum", "mean", None)
    }
    assert loss_by_reduction["sum"] == pytest.approx(5 * loss_by_reduction["mean"], rel=1e-5)
    assert loss_by_reduction[None] == loss_by_reduction[usual]


def test_the_preset_of_ld_is_its_loss(models, quiet_mmdet):
    """The reference is mmdet's port of LD's loss: the mean over classes of a softmax's KL."""
    from mmdet.models.losses import KnowledgeDistillationKLDivLoss

    settings = Library(CONFIGS).presets["soft_labels_ld"].settings
    reference = KnowledgeDistillationKLDivLoss(loss_weight=10, T=2)
    student, teacher = (model.logits[POSITIVE] for model in models)
    torch.testing.assert_close(loss_of(models, **settings), reference(student, teacher))


def test_means_of_levels_add_up(models):
    """Positives 0 and 2 belong to the first level, 7 to the third; the second has none."""
    for model in models:
        model.level_priors = [torch.zeros(3, 4), torch.zeros(2, 4), torch.zeros(3, 4)]
    student, teacher = (model.logits[POSITIVE] for model in models)
    divergence = bernoulli_divergence(teacher, student, 1)
    expected = divergence[:2].mean() + divergence[2]
    torch.testing.assert_close(loss_of(models, over_levels="sum_of_means"), expected)


def test_regions_of_a_second_stage_have_no_levels():
    settings = resolve("soft_labels_ld", {}, "faster_rcnn", Library(CONFIGS), "tests")
    with pytest.raises(UserError, match="reads class_maps, which detector 'faster_rcnn' does not"):
        check_readable(settings, "faster_rcnn", "faster_rcnn", Library(CONFIGS), "tests")


def test_a_softmax_over_one_class_is_always_zero():
    both = tuple(view(torch.full((8, 1), logit, requires_grad=True)) for logit in (3.0, -3.0))
    assert loss_of(both, form="softmax").item() == 0
    assert loss_of(both).item() > 1


@pytest.mark.parametrize("boxes", ["positive", "all"])
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps, boxes):
    full, rounded = distil_random_maps(SoftLabels(boxes=boxes))
    assert rounded["loss_soft_labels"].dtype == torch.float32
    torch.testing.assert_close(rounded, full, rtol=0.01, atol=0)
