"""FRS: hand values, weights of cells, pairs of detectors, warm-up and levels without scores."""

import math
from typing import Any

import pytest
import torch

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.terms import check_readable, resolve
from kd.methods.features.frs import FeatureRichness, best_scores, weighted_mean
from kd.observers import Channels, Progress, observe
from tests.methods.scenes import SIZES, STRIDES, batch_of, maps, view
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)


def logits(seed: int, channels: int = 6) -> list[torch.Tensor]:
    return [2 * level for level in maps(seed, channels, dtype=torch.float64)]


def identity() -> torch.nn.ModuleDict:
    """Return adaptation layers that change nothing."""
    layers = FeatureRichness().adapters(*(Channels([5, 5], [], tuple(STRIDES)),) * 2)
    for layer in layers.values():
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return torch.nn.ModuleDict(layers).double()


def losses(method: FeatureRichness, student: Any, teacher: Any) -> dict[str, Any]:
    return method.losses(student, teacher, batch_of([], []), identity())


def pair() -> tuple[Any, Any]:
    """Return student and teacher with random maps and logits in float64."""
    return tuple(
        view(maps(seed, dtype=torch.float64), class_maps=logits(seed + 10)) for seed in (1, 2)
    )


def test_a_value_worked_out_by_hand() -> None:
    """Two cells: scores 0.8 and 0.2, squared distances 9 and 4, entropies of p^S = 0.5."""
    shape = (1, 1, 1, 2)
    teacher_logits = torch.tensor([math.log(4), -math.log(4)]).double().view(shape)
    scores = best_scores(teacher_logits)
    assert scores.flatten().tolist() == pytest.approx([0.8, 0.2])
    distance = torch.tensor([9.0, 4.0]).double().view(1, 1, 2)
    assert weighted_mean(distance, scores).item() == pytest.approx(9 * 0.8 + 4 * 0.2)
    student = view([torch.zeros(1, 5, 1, 2).double()], class_maps=[torch.zeros(shape).double()])
    teacher_map = torch.zeros(1, 5, 1, 2).double()
    teacher_map[0, 0, 0], teacher_map[0, 1, 0, 0] = torch.tensor([2.0, 2.0]), math.sqrt(5)
    teacher = view([teacher_map], class_maps=[teacher_logits])
    student.strides = teacher.strides = [8]
    values = losses(FeatureRichness(feature_weight=0.1, class_weight=2.0), student, teacher)
    assert values["loss_frs_neck"][0].item() == pytest.approx(0.1 * (9 * 0.8 + 4 * 0.2))
    assert values["loss_frs_cls"][0].item() == pytest.approx(2.0 * math.log(2))


def test_the_score_of_a_cell_is_its_best_over_classes_and_priors() -> None:
    logits_of_cell = torch.tensor([-3.0, 2.0, 0.0, 1.0]).view(1, 4, 1, 1)
    assert best_scores(logits_of_cell).item() == pytest.approx(torch.tensor(2.0).sigmoid().item())


def test_equal_detectors_have_no_neck_term_and_the_entropy_of_the_teacher() -> None:
    _, teacher = pair()
    student = view([level.clone() for level in teacher.neck], class_maps=teacher.class_maps)
    values = losses(FeatureRichness(), student, teacher)
    assert all(value == 0 for value in values["loss_frs_neck"])
    shifted = view(teacher.neck, class_maps=[level + 1 for level in teacher.class_maps])
    others = losses(FeatureRichness(), shifted, teacher)
    for value, other in zip(values["loss_frs_cls"], others["loss_frs_cls"], strict=True):
        assert 0 < value < other


def test_cells_without_a_score_have_no_part() -> None:
    student, teacher = pair()
    for level in teacher.class_maps:
        level[:, :, :2] = -60.0
    before = losses(FeatureRichness(), student, teacher)
    for level in student.neck:
        level.data[:, :, 0] += 5.0
    after = losses(FeatureRichness(), student, teacher)
    for value, other in zip(before["loss_frs_neck"], after["loss_frs_neck"], strict=True):
        assert value.item() == pytest.approx(other.item())


def test_a_level_without_any_score_is_zero() -> None:
    student, teacher = pair()
    teacher.class_maps[1].fill_(-900.0)
    for values in losses(FeatureRichness(), student, teacher).values():
        assert values[0] > 0 and values[1] == 0


def test_a_weight_of_zero_leaves_out_its_term_and_its_layers() -> None:
    student, teacher = pair()
    channels = (Channels([5, 5], [], tuple(STRIDES)),) * 2
    for name, term in (("feature_weight", "loss_frs_cls"), ("class_weight", "loss_frs_neck")):
        method = FeatureRichness(**{name: 0})
        assert [*losses(method, student, teacher)] == [term] == method.term_names
        assert bool(method.adapters(*channels)) == (term == "loss_frs_neck")
        assert ("neck" in method.needs.both) == (term == "loss_frs_neck")


def test_a_map_of_another_size_is_resized_to_the_teachers() -> None:
    student, teacher = pair()
    student.neck = [torch.full((2, 5, 9, 13), 2.0).double(), student.neck[1]]
    teacher.neck[0] = torch.full((2, 5, *SIZES[0]), 2.0).double()
    values = losses(FeatureRichness(class_weight=0), student, teacher)["loss_frs_neck"]
    # The identity keeps the constant, so that interpolation does, too.
    assert values[0].item() == pytest.approx(0, abs=1e-12) and values[1] > 0


def test_gradients_in_float64() -> None:
    student, teacher = pair()
    layers = identity()

    def terms(neck: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, ...]:
        small = view([neck], class_maps=[scores])
        other = view([teacher.neck[1]], class_maps=[teacher.class_maps[1]])
        small.strides = other.strides = STRIDES[:1]
        values = FeatureRichness().losses(small, other, batch_of([], []), layers)
        return tuple(value[0] for value in values.values())

    inputs = student.neck[1].requires_grad_(), student.class_maps[1].requires_grad_()
    assert torch.autograd.gradcheck(terms, inputs)


@pytest.mark.parametrize(
    ("progress", "rate"),
    [
        (Progress(step=0), 0.0),
        (Progress(step=125), 0.25),
        (Progress(step=500), 1.0),
        (Progress(step=10, steps=400), 0.5),
        (Progress(step=20, steps=400), 1.0),
        (Progress(step=250, steps=90_000), 0.5),
    ],
)
def test_weights_rise_over_the_warm_up(progress: Progress, rate: float) -> None:
    student, teacher = pair()
    batch = batch_of([], [])
    whole = FeatureRichness().losses(student, teacher, batch, identity())
    object.__setattr__(batch, "progress", progress)
    early = FeatureRichness().losses(student, teacher, batch, identity())
    for name in whole:
        for value, full in zip(early[name], whole[name], strict=True):
            assert value.item() == pytest.approx(rate * full.item())


# --- Pairs of detectors --------------------------------------------------------------------


def test_only_levels_of_shared_strides_are_compared() -> None:
    channels = Channels([5, 5], [], (8, 16)), Channels([7, 6, 5], [], (4, 8, 16))
    method = FeatureRichness(class_weight=0)
    layers = method.adapters(*channels)
    assert {name: layer.weight.shape[:2] for name, layer in layers.items()} == {
        "level0": (6, 5),
        "level1": (5, 5),
    }
    student = view(maps(1))
    (fine,) = (torch.randn(2, 7, 2 * rows, 2 * columns) for rows, columns in SIZES[:1])
    teacher_neck = [fine, torch.randn(2, 6, *SIZES[0]), torch.randn(2, 5, *SIZES[1])]
    teacher = view(teacher_neck, class_maps=[torch.randn(2, 3, *m.shape[2:]) for m in teacher_neck])
    teacher.strides = [4, 8, 16]
    values = method.losses(student, teacher, batch_of([], []), torch.nn.ModuleDict(layers))
    assert list(values) == ["loss_frs_neck"] and len(values["loss_frs_neck"]) == 2
    assert list(method.focus(student, teacher, batch_of([], [])).maps) == ["stride 8", "stride 16"]


def test_a_two_stage_detector_teaches_maps_and_not_classes() -> None:
    maps_alone = resolve("frs", {"frs": {"class_weight": 0}}, "retinanet", LIBRARY, "here")
    for teacher in ("faster_rcnn", "cascade_rcnn", "fcos", "gfl"):
        check_readable(maps_alone, "retinanet", teacher, LIBRARY, "here")
    both = resolve("frs", {}, "retinanet", LIBRARY, "here")
    with pytest.raises(UserError, match="'frs' compares score_maps row for row, which"):
        check_readable(both, "retinanet", "faster_rcnn", LIBRARY, "here")
    with pytest.raises(UserError, match="'frs' reads score_maps, which detector 'ssd300'"):
        check_readable(maps_alone, "retinanet", "ssd300", LIBRARY, "here")


def test_the_scores_of_a_two_stage_detector_are_those_of_its_rpn(build, batch):
    detector = build("faster_rcnn").eval()
    observation = observe(detector, batch(), frozen=True)
    outputs = detector.rpn_head(tuple(observation.neck))[0]
    assert all(map(torch.equal, observation.class_maps, outputs))
    assert observation.class_maps[0].shape[1] == detector.rpn_head.num_base_priors
