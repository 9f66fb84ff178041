"""Depth of the computation behind an observation, its gradients and its precision."""

from typing import Any

import pytest
import torch

from kd.observers import Candidates, channels_of, observe
from kd.observers.branches import branches_of
from tests.observers.test_observation import ONE_STAGE, TWO_STAGE, head_of, observed

torch.set_num_threads(1)

FAMILIES = [*ONE_STAGE, *TWO_STAGE]


BRANCHED = ["retinanet", "atss", "gfl", "fcos"]
"""Families whose heads compute classes and boxes with separate layers."""


def count_calls(detector: Any) -> dict[str, int]:
    """Return a dict that counts, from now on, how often each part of a detector runs.

    The branches of a head and their predictors run once a level, which counts as one run.
    """
    head = head_of(detector)
    parts = {"backbone": detector.backbone, "neck": detector.neck}
    if branches := branches_of(head):
        levels = len(head.prior_generator.strides)
        for name, (layers, predictor) in {"cls": branches.classes, "box": branches.boxes}.items():
            parts |= {f"{name} layers": getattr(head, layers)[0]}
            parts |= {f"{name} predictor": getattr(head, predictor)}
    else:
        levels, parts["head"] = 1, head
    if hasattr(detector, "roi_head"):
        second = detector.roi_head.bbox_head
        parts["second"] = second[0] if isinstance(second, torch.nn.ModuleList) else second
    counts: dict[str, Any] = dict.fromkeys(parts, 0)

    def count(name: str) -> None:
        counts[name] += 1 / levels if name[:3] in ("cls", "box") else 1
        counts[name] = round(counts[name], 6)

    for name, part in parts.items():
        part.register_forward_hook(lambda *_, name=name: count(name))
    return counts


def once(calls: dict[str, int], *names: str) -> bool:
    """Return True if exactly the parts whose names begin with ``names`` ran, each once."""
    return calls == {name: int(name.startswith(names or ("none",))) for name in calls}


@pytest.fixture(params=FAMILIES)
def detector(request: pytest.FixtureRequest, build: Any) -> Any:
    return build(request.param)


# --- Depth ---------------------------------------------------------------------------------


def test_a_teacher_runs_only_up_to_the_deepest_map_read_and_no_part_twice(detector, batch):
    calls = count_calls(detector)
    teacher = observe(detector.eval(), batch(), frozen=True)
    assert teacher.strides and isinstance(teacher.softmax, bool)
    assert once(calls)
    assert len(teacher.stages) > 1
    assert once(calls, "backbone")
    assert len(teacher.neck) == len(teacher.strides)
    assert once(calls, "backbone", "neck")
    assert len(teacher.level_priors) == len(teacher.neck)
    assert once(calls, "backbone", "neck")
    for _ in range(2):
        assert len(teacher.class_maps) == len(teacher.probability_maps) == len(teacher.neck)
        assert teacher.logits.shape[:2] == teacher.probabilities.shape[:2]
    assert once(calls, "backbone", "neck", "head", "cls")
    for _ in range(2):
        index = torch.tensor([0, 1])
        assert teacher.boxes(index, index).shape == (2, 4)
    assert once(calls, "backbone", "neck", "head", "cls", "box")


@pytest.mark.parametrize("family", BRANCHED)
def test_boxes_of_a_teacher_do_not_wait_for_its_classes(build, batch, family):
    detector = build(family).eval()
    calls = count_calls(detector)
    teacher = observe(detector, batch(), frozen=True)
    index = torch.tensor([0, 1])
    teacher.boxes(index, index), teacher.codes(index, index)
    assert once(calls, "backbone", "neck", "box")


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("family", BRANCHED)
def test_maps_of_a_branch_are_bit_identical_to_those_of_the_whole_head(
    build, batch, family, training
):
    detector, data = build(family).train(training), batch()
    with torch.no_grad():
        for parameter in head_of(detector).parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    branches, whole = (observe(detector, data, frozen=True) for _ in range(2))
    before = [name for name, _ in head_of(detector).named_modules()]
    maps = branches.class_outputs, branches.box_outputs
    for branch_maps, whole_maps in zip(maps, whole.outputs[:2], strict=True):
        assert all(torch.equal(*pair) for pair in zip(branch_maps, whole_maps, strict=True))
    assert [name for name, _ in head_of(detector).named_modules()] == before
    index = torch.arange(2)
    assert torch.equal(branches.boxes(index, index), whole.boxes(index, index))
    assert torch.equal(branches.probabilities, whole.probabilities)


def test_the_second_stage_of_a_teacher_runs_once_for_a_set_of_regions(build, batch):
    student = observed(build("faster_rcnn"), batch())
    detector = build("faster_rcnn", seed=1).eval()
    calls = count_calls(detector)
    teacher = observe(detector, batch(), frozen=True)
    rois = student.candidates
    for candidates in (rois, rois.positive, rois[rois.instance < 0]):
        assert len(teacher.candidate_logits(candidates)) == len(candidates) > 0
    assert teacher.candidate_boxes(rois.positive).shape == (len(rois.positive), 4)
    assert teacher.pool(teacher.region_maps, rois.rois).shape[0] == len(rois)
    assert once(calls, "backbone", "neck", "second")  # the student's regions need no proposals
    other = Candidates(rois.image, rois.index, rois.instance, rois.rois.clone())
    assert torch.equal(teacher.candidate_logits(other), teacher.candidate_logits(rois))
    assert calls["second"] == 2
    assert [len(boxes) for boxes in teacher.proposals] == [50, 50]
    assert calls == {"backbone": 1, "neck": 1, "head": 1, "second": 2}


def test_a_step_of_a_student_runs_each_part_once(detector, batch):
    calls = count_calls(detector)
    student = observed(detector, batch())
    assert once(calls, *calls)
    image, prior = (student.assignment >= 0).nonzero(as_tuple=True)
    assert student.boxes(image, prior).shape == (len(prior), 4)
    assert student.logits.shape[:2] == student.assignment.shape
    if not hasattr(detector, "roi_head") or hasattr(student, "region_maps"):
        positive = student.candidates.positive
        assert len(student.candidate_logits(student.candidates)) == len(student.candidates)
        assert student.candidate_targets(positive).shape == (len(positive), 4)
        assert student.candidate_codes(positive).shape == (len(positive), 4)
    assert once(calls, *calls)


# --- Gradients and precision ---------------------------------------------------------------


def outputs_of(observation: Any) -> list[torch.Tensor]:
    index = torch.tensor([0, 1])
    maps = [*observation.class_maps, *observation.probability_maps, observation.logits]
    return [*maps, observation.probabilities, observation.boxes(index, index)]


@pytest.mark.parametrize("frozen", [True, False], ids=["teacher", "student"])
def test_only_a_students_outputs_carry_gradients(detector, batch, frozen):
    observation = observe(detector, batch(), frozen=frozen)
    outputs = [*observation.stages, *observation.neck, *outputs_of(observation)]
    assert {output.requires_grad for output in outputs} == {not frozen}
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("frozen", [True, False], ids=["teacher", "student"])
def test_only_a_students_regions_carry_gradients(build, batch, frozen):
    candidates = observed(build("faster_rcnn"), batch()).candidates
    model = observe(build("faster_rcnn", seed=1), batch(), frozen=frozen)
    outputs = [model.candidate_logits(candidates), model.pool(model.region_maps, candidates.rois)]
    outputs += [model.candidate_codes(candidates.positive)]
    outputs += [model.candidate_boxes(candidates.positive)]
    assert {output.requires_grad for output in outputs} == {not frozen}
    assert not any(boxes.requires_grad for boxes in model.proposals)
    assert not candidates.rois.requires_grad


def test_class_outputs_and_boxes_are_float32_under_autocast(detector, batch):
    with torch.autocast("cpu", torch.bfloat16):
        observation = observe(detector, batch(), frozen=False)
        assert observation.outputs[0][0].dtype == torch.bfloat16
    assert {output.dtype for output in outputs_of(observation)} == {torch.float32}


def test_regions_are_float32_after_autocast(build, batch):
    with torch.autocast("cpu", torch.bfloat16):
        student = observed(build("faster_rcnn"), batch())
        teacher = observe(build("faster_rcnn", seed=1), batch(), frozen=True)
        assert teacher.neck[0].dtype == torch.bfloat16
    rois = student.candidates
    for model in (student, teacher):
        outputs = [model.candidate_logits(rois), model.pool(model.region_maps, rois.rois)]
        outputs += [model.candidate_codes(rois.positive), model.candidate_boxes(rois.positive)]
        assert {output.dtype for output in outputs} == {torch.float32}


def test_softmax_is_true_for_softmax_heads_alone(build, batch):
    for family in FAMILIES:
        observation = observe(build(family), batch(), frozen=True)
        assert observation.softmax == (family == "ssd300")
        if family != "cascade_rcnn":
            assert observation.candidate_softmax == (family in ("ssd300", "faster_rcnn"))


# --- Widths --------------------------------------------------------------------------------


def test_channels_are_those_of_the_maps(detector, batch):
    channels = channels_of(detector)
    observation = observe(detector, batch(), frozen=True)
    assert channels.neck == [level.shape[1] for level in observation.neck]
    assert channels.stages == [stage.shape[1] for stage in observation.stages]
    assert list(channels.strides) == observation.strides
    height, width = observation.batch.inputs.shape[2:]
    sizes = [tuple(level.shape[2:]) for level in observation.neck]
    expected = [(-(-height // stride), -(-width // stride)) for stride in channels.strides]
    assert sizes == expected


def test_measuring_channels_does_not_change_the_detector(detector):
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    channels_of(detector)
    assert detector.backbone.training
    for name, value in detector.state_dict().items():
        assert torch.equal(value, before[name])


# --- The batch -----------------------------------------------------------------------------


def test_offsets_turn_an_index_in_the_image_into_one_in_the_batch(batch):
    data = batch((3, 2))
    assert data.gt_offsets.tolist() == [0, 3]
    boxes = torch.cat(data.gt_boxes)
    assert torch.equal(boxes[data.gt_offsets[1] + 1], data.gt_boxes[1][1])
    assert [len(labels) for labels in data.gt_labels] == [3, 2]
    assert batch((0, 2)).gt_offsets.tolist() == [0, 0]


@pytest.mark.parametrize("family", [*ONE_STAGE, "faster_rcnn"])
def test_candidates_have_the_label_and_box_of_their_object(build, batch, family):
    data = batch((3, 2))
    student = observed(build(family), data)
    for candidates in (student.candidates, student.every_prior):
        positive = candidates.positive
        assert 0 < len(positive) < len(candidates)
        indices = positive.instance - data.gt_offsets[positive.image]
        for row, (image, index) in enumerate(zip(positive.image, indices, strict=True)):
            assert torch.equal(positive.truth(data)[row], data.gt_boxes[image][index])
            assert positive.labels(data)[row] == data.gt_labels[image][index]
    assigned = student.assignment.flatten()
    assert torch.equal(student.every_prior.instance >= 0, assigned >= 0)
