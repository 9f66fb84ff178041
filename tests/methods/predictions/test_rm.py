"""Rank mimicking: values of the method reference, and properties."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.ops import box_iou

from kd.methods.ops.boxes import aligned_iou
from kd.methods.predictions.rm import RankMimicking, rank_divergence
from kd.observers import Batch
from tests.methods.scenes import make_batch

torch.set_num_threads(1)

TEACHER, STUDENT = torch.tensor([0.9, 0.6, 0.1]), torch.tensor([0.5, 0.6, 0.2])
ONE = torch.zeros(3, dtype=torch.long)
"""Object of each of three priors: all of the first."""


def softmax(scores: list[float]) -> list[float]:
    weights = [math.exp(score) for score in scores]
    return [weight / sum(weights) for weight in weights]


def divergence(teacher: list[float], student: list[float]) -> float:
    """Return the KL divergence of the softmaxes of one object's scores."""
    pairs = zip(softmax(teacher), softmax(student), strict=True)
    return sum(p * math.log(p / q) for p, q in pairs)


# --- One tensor of scores ------------------------------------------------------------------


def test_golden_value_of_scores():
    teacher, student = (0.456590, 0.338250, 0.205159), (0.351372, 0.388326, 0.260303)
    assert softmax(TEACHER.tolist()) == pytest.approx(teacher, abs=1e-6)
    assert softmax(STUDENT.tolist()) == pytest.approx(student, abs=1e-6)
    by_hand = sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))
    assert by_hand == pytest.approx(0.024062, abs=2e-6)
    assert rank_divergence(TEACHER, STUDENT, ONE, 1).item() == pytest.approx(0.024062, abs=1e-6)


def test_golden_value_of_logits():
    loss = rank_divergence(TEACHER.logit(), STUDENT.logit(), ONE, 1)
    assert loss.item() == pytest.approx(0.504822, abs=1e-6)


def test_scores_are_not_sorted():
    best_first = [scores.sort(descending=True).values for scores in (TEACHER, STUDENT)]
    assert rank_divergence(*best_first, ONE, 1).item() == pytest.approx(0.012228, abs=1e-6)
    assert rank_divergence(TEACHER, STUDENT, ONE, 1).item() > 0.02


def test_mean_over_objects_worked_out_by_hand():
    """Two priors each; softmax of (log 3, 0) is (3/4, 1/4) and of (0, 0) is (1/2, 1/2)."""
    teacher = torch.tensor([math.log(3), 0.0, 0.0, 0.0])
    student = torch.tensor([0.0, 0.0, math.log(3), 0.0])
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    second = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    loss = rank_divergence(teacher, student, torch.tensor([0, 0, 1, 1]), 2)
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


@pytest.fixture
def scores() -> SimpleNamespace:
    """Return scores of 20 priors of 5 objects in random order."""
    generator = torch.Generator().manual_seed(0)
    instance = torch.arange(20)[torch.randperm(20, generator=generator)] % 5
    teacher, student = torch.randn(2, 20, generator=generator, dtype=torch.float64)
    return SimpleNamespace(
        teacher=teacher, student=student.requires_grad_(), instance=instance, order=generator
    )


def loss_of(scores: SimpleNamespace, **changes: Tensor) -> Tensor:
    values = {**vars(scores), **changes}
    return rank_divergence(values["teacher"], values["student"], values["instance"], 5)


def test_equal_scores_cost_nothing(scores):
    assert loss_of(scores, student=scores.teacher).item() == pytest.approx(0, abs=1e-12)
    assert loss_of(scores).item() > 0.1


def test_one_prior_costs_nothing_whatever_its_score():
    student = torch.tensor([-30.0, 4.0], requires_grad=True)
    loss = rank_divergence(torch.tensor([7.0, 100.0]), student, torch.tensor([0, 1]), 2)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.eq(0).all()


@pytest.mark.parametrize("model", ["teacher", "student"])
def test_a_constant_per_object_changes_nothing_but_a_factor_does(scores, model):
    shift = torch.tensor([3.0, -2.0, 0.5, 10.0, 0.0])[scores.instance]
    mine = getattr(scores, model)
    torch.testing.assert_close(loss_of(scores, **{model: mine + shift}), loss_of(scores))
    assert not torch.isclose(loss_of(scores, **{model: 2 * mine}), loss_of(scores), rtol=0.05)


def test_priors_may_be_permuted_jointly_but_not_in_one_model(scores):
    order = torch.randperm(20, generator=scores.order)
    jointly = {name: getattr(scores, name)[order] for name in ("teacher", "student", "instance")}
    torch.testing.assert_close(loss_of(scores, **jointly), loss_of(scores))
    alone = loss_of(scores, student=scores.student[order])
    assert not torch.isclose(alone, loss_of(scores), rtol=0.05)


def test_gradients_of_an_objects_scores_sum_to_zero(scores):
    (gradient,) = torch.autograd.grad(loss_of(scores), scores.student)
    sums = torch.zeros(5, dtype=torch.float64).index_add(0, scores.instance, gradient)
    torch.testing.assert_close(sums, torch.zeros(5, dtype=torch.float64))
    assert gradient.abs().min() > 1e-6


def test_gradient_is_that_of_cross_entropy_with_the_teachers_distribution():
    student = STUDENT.clone().requires_grad_()
    (ours,) = torch.autograd.grad(rank_divergence(TEACHER, student, ONE, 1), student)
    entropy = cross_entropy(student[None], TEACHER[None].softmax(1))
    torch.testing.assert_close(ours, torch.autograd.grad(entropy, student)[0])


def test_the_teacher_gets_no_gradient(scores):
    teacher = scores.teacher.clone().requires_grad_()
    loss_of(scores, teacher=teacher).backward()
    assert teacher.grad is None


def test_gradcheck(scores):
    assert torch.autograd.gradcheck(lambda s: loss_of(scores, student=s), scores.student)


def test_gradcheck_of_the_overlap():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 6, 2, generator=generator, dtype=torch.float64) * 5
    sides = 4 + torch.rand(2, 6, 2, generator=generator, dtype=torch.float64) * 5
    boxes, others = torch.cat([corners, corners + sides], 2)
    assert torch.autograd.gradcheck(lambda b: aligned_iou(b, others), boxes.requires_grad_())


def test_large_scores_stay_finite():
    student = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    loss = rank_divergence(torch.tensor([1e4, -1e4, 0.0]), student, ONE, 1)
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert student.grad.isfinite().all()


# --- Overlap of the localization rank ------------------------------------------------------


def test_overlap_equals_torchvisions():
    generator = torch.Generator().manual_seed(1)
    corners, sides = torch.rand(2, 2, 50, 2, generator=generator) * 8
    boxes, others = torch.cat([corners, corners + sides], 2)
    torch.testing.assert_close(aligned_iou(boxes, others), box_iou(boxes, others).diagonal())


def test_overlap_of_disjoint_and_of_empty_boxes_is_zero_and_has_a_finite_gradient():
    boxes = torch.tensor([[0.0, 0, 2, 2], [3.0, 3, 3, 3], [5.0, 5, 4, 4]], requires_grad=True)
    others = torch.tensor([[4.0, 4, 6, 6], [3.0, 3, 3, 3], [4.0, 4, 5, 5]])
    overlap = aligned_iou(boxes, others)
    overlap.sum().backward()
    assert overlap.tolist() == [0, 0, 0]
    assert boxes.grad.isfinite().all()


# --- The method on two observations --------------------------------------------------------

TRUTH = [torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 40, 30]]), torch.zeros(0, 4)]
TRUTH.append(torch.tensor([[5.0, 5, 15, 25], [0.0, 0, 8, 8], [30.0, 30, 60, 60]]))
LABELS = [torch.tensor([2, 0]), torch.zeros(0, dtype=torch.long), torch.tensor([3, 3, 1])]
ASSIGNMENT = torch.tensor(
    [
        [0, -1, 0, 1, -1, 1, 0, 1],
        [-1, -1, -1, -1, -1, -1, -1, -1],
        [-1, 0, -1, 0, 1, -1, 0, -1],  # one prior for the second object, none for the third
    ]
)


def view(logits: Tensor, boxes: Tensor, assignment: Tensor = ASSIGNMENT) -> SimpleNamespace:
    """Return an observation of a sigmoid head with logits and decoded boxes."""
    return SimpleNamespace(
        logits=logits,
        softmax=False,
        assignment=assignment,
        boxes=lambda image, prior: boxes[image, prior],
    )


def batch_of(truth: list[Tensor], labels: list[Tensor]) -> Batch:
    return make_batch(torch.zeros(len(truth), 3, 1, 1), truth, labels)


BATCH = batch_of(TRUTH, LABELS)


@pytest.fixture
def models() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logits (3, 8, 4) and boxes (3, 8, 4) of teacher and student near the ground truth."""
    generator = torch.Generator().manual_seed(0)
    random = partial(torch.randn, 2, 3, 8, 4, generator=generator, dtype=torch.float64)
    teacher, student = random()
    near = torch.zeros(3, 8, 4)
    image, prior = (ASSIGNMENT >= 0).nonzero(as_tuple=True)
    near[image, prior] = torch.stack(
        [TRUTH[i][ASSIGNMENT[i, j]] for i, j in zip(image, prior, strict=True)]
    )
    wide, narrow = near + random()
    return teacher, wide, student.requires_grad_(), narrow.requires_grad_()


def losses(models: tuple[Tensor, ...], batch: Batch = BATCH, **changes: object) -> dict:
    teacher_logits, teacher_boxes, logits, boxes = models
    teacher, student = view(teacher_logits, teacher_boxes), view(logits, boxes)
    settings = {"score": "probability", **changes}
    return RankMimicking(**settings).losses(student, teacher, batch, {})


def by_loop(teacher: Tensor, student: Tensor) -> float:
    """Return the mean divergence over the batch's five objects of scores (3, 8)."""
    total = 0.0
    for image, count in enumerate(map(len, TRUTH)):
        for index in range(count):
            priors = ASSIGNMENT[image] == index
            if priors.any():
                total += divergence(
                    teacher[image, priors].tolist(), student[image, priors].tolist()
                )
    return total / 5


def scores_of_target(logits: Tensor) -> Tensor:
    scores = torch.zeros(3, 8, dtype=torch.float64)
    for image, prior in (ASSIGNMENT >= 0).nonzero().tolist():
        scores[image, prior] = logits[image, prior, LABELS[image][ASSIGNMENT[image, prior]]]
    return scores.detach()


def overlaps_with_target(boxes: Tensor) -> Tensor:
    overlaps = torch.zeros(3, 8, dtype=torch.float64)
    for image, prior in (ASSIGNMENT >= 0).nonzero().tolist():
        target = TRUTH[image][ASSIGNMENT[image, prior]]
        overlaps[image, prior] = box_iou(boxes[image, prior][None], target[None])
    return overlaps.detach()


def test_class_rank_equals_a_loop_over_objects(models):
    teacher, _, student, _ = models
    expected = by_loop(*(scores_of_target(logits).sigmoid() for logits in (teacher, student)))
    loss = losses(models)["loss_rm_cls"].item()
    assert loss == pytest.approx(4 * expected, rel=1e-5)
    of_logits = by_loop(scores_of_target(teacher), scores_of_target(student))
    assert losses(models, score="logit")["loss_rm_cls"].item() == pytest.approx(
        4 * of_logits, rel=1e-5
    )


def test_localization_rank_equals_a_loop_over_objects(models):
    _, teacher, _, student = models
    expected = by_loop(overlaps_with_target(teacher), overlaps_with_target(student))
    assert losses(models)["loss_rm_loc"].item() == pytest.approx(4 * expected, rel=1e-5)


def test_localization_rank_worked_out_by_hand():
    """Overlaps with (0, 0, 10, 10): the teacher's are 1 and 1/2, the student's 1/2 and 1/4."""
    whole, half, quarter = [0.0, 0, 10, 10], [0.0, 0, 10, 5], [0.0, 0, 5, 5]
    batch = batch_of([torch.tensor([whole])], [torch.tensor([0])])
    positive = torch.tensor([[0, 0]])
    teacher = view(torch.zeros(1, 2, 1), torch.tensor([[whole, half]]), positive)
    student = view(torch.zeros(1, 2, 1), torch.tensor([[half, quarter]]), positive)
    loss = RankMimicking(weight=1).losses(student, teacher, batch, {})["loss_rm_loc"]
    assert loss.item() == pytest.approx(divergence([1, 0.5], [0.5, 0.25]), abs=1e-6)


def test_equal_models_cost_nothing(models):
    teacher, boxes, _, _ = models
    same = losses((teacher, boxes, teacher, boxes))
    assert [value.item() for value in same.values()] == pytest.approx([0, 0], abs=1e-6)


def test_gradient_is_exactly_zero_but_for_target_classes_of_positive_priors(models):
    logits = models[2]
    (gradient,) = torch.autograd.grad(losses(models)["loss_rm_cls"], logits)
    ranked = torch.zeros_like(gradient, dtype=torch.bool)
    for image, prior in (ASSIGNMENT >= 0).nonzero().tolist():
        ranked[image, prior, LABELS[image][ASSIGNMENT[image, prior]]] = True
    ranked[2, 4] = False  # the only prior of its object
    assert gradient[~ranked].eq(0).all()
    assert gradient[ranked].ne(0).all()


def test_gradient_of_the_boxes_is_exactly_zero_but_for_positive_priors(models):
    boxes = models[3]
    (gradient,) = torch.autograd.grad(losses(models)["loss_rm_loc"], boxes)
    ranked = ASSIGNMENT >= 0
    ranked[2, 4] = False
    assert gradient[~ranked].eq(0).all()
    assert gradient[ranked].ne(0).any(1).all()


def test_permuting_priors_in_both_models_changes_nothing(models):
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    reordered = [tensor[:, order] for tensor in models]
    student = view(reordered[2], reordered[3], ASSIGNMENT[:, order])
    permuted = RankMimicking(score="probability").losses(student, view(*reordered[:2]), BATCH, {})
    for name, value in losses(models).items():
        torch.testing.assert_close(permuted[name], value)


def test_an_object_without_a_prior_counts_as_zero(models):
    fewer = batch_of([*TRUTH[:2], TRUTH[2][:2]], [*LABELS[:2], LABELS[2][:2]])
    for name, value in losses(models, fewer).items():
        torch.testing.assert_close(4 * value, 5 * losses(models)[name])


@pytest.mark.parametrize(
    "batch",
    [batch_of([TRUTH[1]] * 3, [LABELS[1]] * 3), BATCH],
    ids=["no objects", "objects without priors"],
)
def test_without_positive_priors_the_loss_is_zero_and_finite(models, batch):
    teacher, wide, logits, boxes = models
    nothing = torch.full_like(ASSIGNMENT, -1)
    terms = RankMimicking(score="probability").losses(
        view(logits, boxes, nothing), view(teacher, wide), batch, {}
    )
    sum(terms.values()).backward()
    assert [value.item() for value in terms.values()] == [0, 0]
    assert logits.grad.eq(0).all()
    assert boxes.grad.eq(0).all()


def test_each_rank_can_be_left_out(models):
    both = losses(models)
    assert set(both) == {"loss_rm_cls", "loss_rm_loc"}
    assert losses(models, localisation=False) == {"loss_rm_cls": both["loss_rm_cls"]}
    assert losses(models, classification=False) == {"loss_rm_loc": both["loss_rm_loc"]}


def test_the_weight_is_the_papers_alpha(models):
    for name, value in losses(models, weight=1).items():
        torch.testing.assert_close(4 * value, losses(models)[name])


def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps):
    full, rounded = distil_random_maps(RankMimicking(score="probability"))
    for name, value in rounded.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, full[name], rtol=0.01, atol=0)
