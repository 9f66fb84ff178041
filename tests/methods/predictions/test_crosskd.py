"""CrossKD: hand values, equal detectors, gradients, positions, scenes and refusals."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.terms import check_readable, resolve
from kd.methods.predictions.crosskd import CrossKD, best_scores
from kd.observers import observe
from tests.methods.scenes import batch_of
from tests.support.paths import CONFIGS
from tests.support.tiny import edit, make_project

HEADS = ("retinanet", "atss", "gfl", "fcos")
CELLS = (2, 3)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def view(logits: torch.Tensor, **outputs: Any) -> SimpleNamespace:
    """Return the observation of a head with one prior in each cell of a level."""
    head = SimpleNamespace(cls_out_channels=logits.shape[1], cls_convs=[None])
    return SimpleNamespace(class_maps=[logits], head=head, **outputs)


def losses(
    method: CrossKD, teacher: Any, crossed: Any, positive: tuple[int, ...] = ()
) -> dict[str, torch.Tensor]:
    """Return both terms; ``positive``: priors of the first image that have an object."""
    teacher.crossed = lambda _student, _layers: crossed
    assignment = torch.full((len(teacher.class_maps[0]), math.prod(CELLS)), -1)
    assignment[0, list(positive)] = 0
    student = SimpleNamespace(assignment=assignment)
    return method.losses(student, teacher, batch_of([]), torch.nn.ModuleDict())


def boxes(*rows: list[float]) -> torch.Tensor:
    """Return (1, N, 4): the given boxes, and equal ones of 8 pixels in the other cells."""
    filler = [[0.0, 0.0, 8.0, 8.0]] * (math.prod(CELLS) - len(rows))
    return torch.tensor([*rows, *filler], dtype=torch.float64)[None]


# --- Values --------------------------------------------------------------------------------


@pytest.mark.parametrize("divisor", ["scores", "positive", "all"])
def test_a_value_worked_out_by_hand(divisor: Any) -> None:
    """One cell and class differ: p^T = 0.8, p^S = 0.5; all other probabilities are 0.2."""
    logits = torch.full((1, 2, *CELLS), logit(0.2), dtype=torch.float64)
    teacher_logits, student_logits = logits.clone(), logits.clone()
    teacher_logits[0, 1, 0, 0], student_logits[0, 1, 0, 0] = logit(0.8), 0.0
    # The intersection is 4 x 8, the union 8 x 12 and the enclosing box the same: GIoU 1/3.
    teacher = view(teacher_logits, prior_boxes=boxes([0, 0, 8, 8]))
    crossed = view(student_logits, prior_boxes=boxes([4, 0, 12, 8]))
    values = losses(CrossKD(divisor=divisor), teacher, crossed, positive=(0, 4))
    count = {"scores": 0.8 + 5 * 0.2, "positive": 2, "all": 6}[divisor]
    assert values["loss_crosskd_cls"].item() == pytest.approx(0.3 * math.log(2) / count)
    assert values["loss_crosskd_box"].item() == pytest.approx((2 / 3) / count)
    weighted = losses(CrossKD(divisor=divisor, region="scores"), teacher, crossed, (0, 4))
    assert weighted["loss_crosskd_box"].item() == pytest.approx(0.8 * (2 / 3) / count)


def test_the_defaults_are_the_means_of_the_paper() -> None:
    """Equation 3 has S(r) = 1 for every position r: each term is a mean over all priors."""
    assert (CrossKD().region, CrossKD().divisor) == ("all", "all")
    generator = torch.Generator().manual_seed(1)
    logits, others = torch.randn(2, 2, 3, *CELLS, generator=generator, dtype=torch.float64)
    shift = torch.rand(2, math.prod(CELLS), 1, generator=generator, dtype=torch.float64)
    teacher_boxes = torch.cat([boxes(), boxes()])
    views = view(logits, prior_boxes=teacher_boxes), view(others, prior_boxes=teacher_boxes + shift)
    twice = [
        view(torch.cat([one.class_maps[0]] * 2), prior_boxes=torch.cat([one.prior_boxes] * 2))
        for one in views
    ]
    once, repeated = losses(CrossKD(), *views), losses(CrossKD(), *twice)
    for name, value in once.items():
        assert value > 0 and repeated[name].item() == pytest.approx(value.item())


def test_distributions_of_sides_worked_out_by_hand() -> None:
    """The left side of one prior has (2/3, 1/3) in the teacher and (1/2, 1/2) in the student."""
    logits = torch.zeros(1, 1, *CELLS, dtype=torch.float64)
    sides = torch.zeros(1, math.prod(CELLS), 4, 2, dtype=torch.float64)
    teacher_sides = sides.clone()
    teacher_sides[0, 3, 0, 0] = math.log(2)
    teacher, crossed = view(logits, sides=teacher_sides), view(logits, sides=sides)
    divergence = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    by_hand = 4 * divergence / 4 / 6
    value = losses(CrossKD(), teacher, crossed)["loss_crosskd_box"]
    assert value.item() == pytest.approx(by_hand)
    assert losses(CrossKD(box_weight=1.0), teacher, crossed)[
        "loss_crosskd_box"
    ].item() == pytest.approx(by_hand / 4)


def test_the_best_score_of_a_prior_is_over_its_classes() -> None:
    maps = torch.tensor([0.0, 1.0, 2.0, -1.0, 5.0, 4.0]).view(1, 6, 1, 1)
    observation = SimpleNamespace(
        head=SimpleNamespace(cls_out_channels=3), class_maps=[maps, maps + 1]
    )
    expected = torch.tensor([[2.0, 5.0, 3.0, 6.0]]).sigmoid()
    assert torch.equal(best_scores(observation), expected)


@pytest.mark.parametrize("name", ["class", "box"])
def test_a_weight_of_zero_leaves_a_term_out(name: str) -> None:
    logits = torch.zeros(1, 1, *CELLS, dtype=torch.float64)
    # Without the term, nothing that only it needs is computed.
    outputs: dict[str, Any] = {"class": {"prior_boxes": boxes()}, "box": {}}[name]
    method = CrossKD(**{f"{name}_weight": 0.0})
    (term,) = losses(method, view(logits, **outputs), view(logits, **outputs))
    assert [term] == method.term_names and name not in term.replace("cls", "class")


@pytest.mark.parametrize("divisor", ["scores", "all"])
def test_gradients_in_float64(divisor: Any) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    corners = 4 * random(2, 6, 2)
    teacher = view(random(2, 3, *CELLS), prior_boxes=torch.cat([corners, corners + 8], 2))
    shift = random(2, 6, 2)
    inputs = random(2, 3, *CELLS).requires_grad_(), shift.requires_grad_()

    def terms(logits: torch.Tensor, moved: torch.Tensor) -> tuple[torch.Tensor, ...]:
        student_boxes = torch.cat([corners + moved, corners + 8 + 2 * moved], 2)
        crossed = view(logits, prior_boxes=student_boxes)
        return tuple(losses(CrossKD(divisor=divisor, beta=2.0), teacher, crossed).values())

    assert torch.autograd.gradcheck(terms, inputs)


# --- Detectors -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", HEADS)
@pytest.mark.parametrize("boxes_of_images", [(3, 2), (0, 0), (1, 0)])
def test_equal_heads_on_equal_maps_have_no_loss(build, batch, family, boxes_of_images):
    data, model = batch(boxes_of_images), build(family)
    student = observe(model, data, frozen=False)
    student.losses()
    teacher = observe(model.eval(), data, frozen=True)
    teacher.neck = [maps.detach() for maps in student.neck]
    for settings in ({}, {"divisor": "positive"}, {"region": "scores", "divisor": "scores"}):
        values = CrossKD(**settings).losses(student, teacher, data, torch.nn.ModuleDict())
        assert all(0 <= value < 1e-5 for value in values.values()), values


def test_terms_of_groups_are_those_of_their_images(build, batch):
    data = batch()
    student, teacher = observe(build(), data, frozen=False), build(seed=1)
    student.losses()
    whole = observe(teacher.eval().requires_grad_(False), data, frozen=True)
    method = CrossKD()
    values = method.losses(student, whole, data, torch.nn.ModuleDict())
    parts = [
        method.losses(student.subset(one), whole.subset(one), data.subset(one), {})
        for one in (slice(0, 1), slice(1, 2))
    ]
    for name, value in values.items():
        mean = sum(part[name] for part in parts) / 2
        assert mean.item() == pytest.approx(value.item(), rel=1e-4)


def test_more_layers_than_the_head_has_are_all_of_them(build, batch):
    data = batch()
    student = observe(build("gfl"), data, frozen=False)
    student.losses()
    teacher = observe(build("gfl", seed=1).eval(), data, frozen=True)
    one, four = (
        CrossKD(teacher_layers=layers).losses(student, teacher, data, torch.nn.ModuleDict())
        for layers in (1, 4)
    )
    assert all(torch.equal(one[name], four[name]) for name in one)


# --- Refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["stacked_convs", "feat_channels"])
def test_heads_of_unequal_depth_or_width_are_refused(tmp_path, monkeypatch, key):
    monkeypatch.chdir(make_project(tmp_path, data=False))
    text = (tmp_path / "configs/detectors/gfl.yaml").read_text()
    (tmp_path / "configs/detectors/gfl-other.yaml").write_text(text)
    edit("configs/detectors/gfl-other.yaml", **{f"model__bbox_head__{key}": 128})
    edit("configs/scales/tiny.yaml", **{"detectors__gfl-other": {}})
    table = {"methods": ["crosskd"], "detectors": ["gfl"]}
    table["pairs"] = [{"teacher": "r50", "student": "r18", "teacher_detector": "gfl-other"}]
    edit("configs/studies/tiny.yaml", **{f"tables__pair__{k}": v for k, v in table.items()})
    with pytest.raises(UserError, match=rf"method 'crosskd' reads towers of both heads, .*'{key}'"):
        plan("tiny", "tiny", Library())


@pytest.mark.parametrize("teacher", ["atss", "retinanet", "faster_rcnn"])
def test_another_kind_of_head_is_refused(teacher):
    library = Library(CONFIGS)
    terms = resolve("crosskd", {}, "gfl", library, "here")
    with pytest.raises(UserError, match=r"^here: method 'crosskd' (compares|reads) "):
        check_readable(terms, "gfl", teacher, library, "here")
