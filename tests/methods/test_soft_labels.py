"""Soft labels: the values of the method reference, and what must hold for any logits."""

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
from kd.methods.soft_labels import SoftLabels
from kd.observers import Batch, Candidates
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

TEACHER, STUDENT = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, 0.0]])
FORMS = [bernoulli_divergence, categorical_divergence]


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    """Logits (6, 4) of teacher and student."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 6, 4, generator=generator, dtype=torch.float64))


# --- Golden values -------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "wanted"), [(1, 0.379738), (2, 0.488732)])
def test_golden_value_of_a_softmax(temperature, wanted):
    found = categorical_divergence(TEACHER, STUDENT, temperature)
    assert found.item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("temperature", "wanted"), [(1, 0.099396), (2, 0.116766)])
def test_golden_value_of_sigmoids(temperature, wanted):
    found = bernoulli_divergence(TEACHER, STUDENT, temperature)
    assert found.item() == pytest.approx(wanted, abs=1e-6)


def test_golden_value_of_each_sigmoid():
    found = bernoulli_divergence(TEACHER.T, STUDENT.T, 1)
    assert found.tolist() == pytest.approx([0.067131, 0.120115, 0.110944], abs=1e-6)


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
    teacher, student = (each.clone().requires_grad_() for each in logits)
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
    """Student and teacher: two images of 4 candidates, three of them positive, 5 outputs."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 8, 5, generator=generator)
    return view(student.requires_grad_()), view(teacher)


def view(logits: Tensor, softmax: bool = False, instance: Tensor = INSTANCE) -> SimpleNamespace:
    """What soft labels read of an observation."""
    return SimpleNamespace(
        logits=logits,
        candidates=Candidates(IMAGE, torch.arange(8), instance),
        candidate_softmax=softmax,
        level_priors=[torch.zeros(8, 4)],
        candidate_logits=lambda candidates: logits[candidates.index],
        candidate_boxes=lambda candidates: candidates.index,
    )


def batch_of(labels: list[Tensor]) -> Batch:
    samples = [SimpleNamespace(gt_instances=SimpleNamespace(labels=each)) for each in labels]
    return Batch(torch.zeros(len(labels), 3, 1, 1), samples)


BATCH = batch_of(LABELS)


def loss_of(models: tuple[SimpleNamespace, SimpleNamespace], **settings: object) -> Tensor:
    (loss,) = SoftLabels(**settings).losses(*models, BATCH, {}).values()
    return loss


def test_mean_over_positive_candidates_of_the_batch(models):
    student, teacher = (each.logits[POSITIVE] for each in models)
    assert len(student) == 3
    wanted = bernoulli_divergence(teacher, student, 2).sum() / 3
    torch.testing.assert_close(loss_of(models, temperature=2, weight=5), 5 * wanted)


@pytest.mark.parametrize("softmax", [False, True], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize(
    ("boxes", "chosen"),
    [("positive", POSITIVE), ("negative", ~POSITIVE), ("all", torch.full((8,), True))],
)
def test_only_chosen_candidates_count_and_get_a_gradient(models, boxes, chosen, softmax):
    logits = models[0].logits
    student, teacher = view(logits, softmax), view(models[1].logits, softmax)
    loss = loss_of((student, teacher), boxes=boxes)
    form = categorical_divergence if softmax else bernoulli_divergence
    torch.testing.assert_close(loss, form(teacher.logits[chosen], logits[chosen], 1).mean())
    loss.backward()
    assert torch.equal(logits.grad.ne(0).all(1), chosen)
    assert logits.grad[~chosen].eq(0).all()


@pytest.mark.parametrize(
    ("softmax", "right"), [(True, [0, 1, 6]), (False, [0])], ids=["softmax", "sigmoid"]
)
def test_the_boxes_that_the_teacher_classifies_right(models, softmax, right):
    """Candidate 0 has label 1, 2 label 3 and 7 label 0; background is output 4 of a softmax."""
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
    student, teacher = (view(each.logits, instance=nothing) for each in models)
    loss = loss_of((student, teacher), boxes=boxes)
    loss.backward()
    assert loss.item() == 0
    assert student.logits.grad.eq(0).all()


def test_only_boxes_of_the_first_image_are_drawn(models):
    assert SoftLabels().focus(*models, BATCH).boxes["chosen"].tolist() == [0, 2]


# --- Variants ------------------------------------------------------------------------------


@pytest.mark.parametrize(("softmax", "usual"), [(False, "mean"), (True, "sum")])
def test_classes_are_summed_or_averaged(models, softmax, usual):
    both = tuple(view(each.logits, softmax) for each in models)
    found = {each: loss_of(both, over_classes=each).item() for each in ("sum", "mean", None)}
    assert found["sum"] == pytest.approx(5 * found["mean"], rel=1e-5)
    assert found[None] == found[usual]


def test_the_preset_of_ld_is_its_loss(models, quiet_mmdet):
    """Mmdet has LD's loss: a softmax over the classes of a sigmoid head, the mean over them."""
    from mmdet.models.losses import KnowledgeDistillationKLDivLoss

    settings = Library(CONFIGS).preset("soft_labels_ld").settings
    reference = KnowledgeDistillationKLDivLoss(loss_weight=10, T=2)
    student, teacher = (each.logits[POSITIVE] for each in models)
    torch.testing.assert_close(loss_of(models, **settings), reference(student, teacher))


def test_means_of_levels_add_up(models):
    """Positives 0 and 2 belong to the first level, 7 to the third; the second has none."""
    for each in models:
        each.level_priors = [torch.zeros(3, 4), torch.zeros(2, 4), torch.zeros(3, 4)]
    student, teacher = (each.logits[POSITIVE] for each in models)
    divergence = bernoulli_divergence(teacher, student, 1)
    wanted = divergence[:2].mean() + divergence[2]
    torch.testing.assert_close(loss_of(models, over_levels="sum_of_means"), wanted)


def test_regions_of_a_second_stage_have_no_levels():
    settings = resolve("soft_labels_ld", {}, "faster_rcnn", Library(CONFIGS), "tests")
    with pytest.raises(UserError, match="reads class_maps, which detector 'faster_rcnn' does not"):
        check_readable(settings, "faster_rcnn", "faster_rcnn", Library(CONFIGS), "tests")


def test_a_softmax_over_one_class_knows_nothing():
    both = tuple(view(torch.full((8, 1), logit, requires_grad=True)) for logit in (3.0, -3.0))
    assert loss_of(both, form="softmax").item() == 0
    assert loss_of(both).item() > 1


@pytest.mark.parametrize("boxes", ["positive", "all"])
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps, boxes):
    full, rounded = distil_random_maps(SoftLabels(boxes=boxes))
    assert rounded["loss_soft_labels"].dtype == torch.float32
    torch.testing.assert_close(rounded, full, rtol=0.01, atol=0)
