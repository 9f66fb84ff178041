"""Time and memory of a distilled step by part, and its bound: student and teachers alone."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from kd.config.canonical import student_alone
from kd.config.library import Library
from kd.config.terms import resolve
from kd.profiling import clock, measure, memory
from kd.profiling.clock import Clock
from kd.profiling.measure import Memory, Times, by_part, replay_of, replayed
from kd.profiling.parts import in_order, teachers_of
from kd.profiling.trainee import Trainee
from tests.config.test_applicability import classifier

MEGABYTE = 2**20
PROPOSED: dict[str, Any] = {
    "detectors": ("faster_rcnn",),
    "settings": {"mimic": {"form": "united_perception"}},
}
"""A method that reads the teacher's proposals."""


class Ticks:
    """Fake clock that advances by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter(self) -> float:
        self.now += 1
        return float(self.now)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    ticking = Ticks()
    monkeypatch.setattr(clock, "time", ticking)
    return ticking


@pytest.fixture
def trainee(study: Callable[..., Any]) -> Callable[..., Trainee]:
    """Return a function that builds the trainee of a method's only distilled run."""

    def build(method: str, alone: bool = False, **options: Any) -> Trainee:
        config = list(study([method], **options).runs.values())[-1].config
        return Trainee.build(student_alone(config) if alone else config)

    return build


@pytest.fixture
def data(images: Callable[..., Any]) -> dict[str, Any]:
    """Return a batch in the form of a data loader: unbatched bytes and samples."""
    pixels = [torch.zeros(3, 64, 96, dtype=torch.uint8)] * 2
    return {"inputs": pixels, "data_samples": images()["data_samples"]}


# --- Time by part --------------------------------------------------------------------------


def test_the_time_of_a_span_excludes_the_spans_inside_it(ticks: Ticks) -> None:
    times = Clock()
    with times.span("outer"):  # 1
        with times.span("inner"):  # 2 to 3
            pass
        with times.span("inner"), times.span("innermost"):  # 4, 5 to 6, 7
            pass
    assert times.read() == {"outer": 3, "inner": 3, "innermost": 1}  # 8
    assert times.read() == {}


def test_a_span_that_fails_is_closed(ticks: Ticks) -> None:
    times = Clock()
    with pytest.raises(ValueError, match="no"), times.span("failing"):
        raise ValueError("no")
    assert times.part == ""


STUDENT = [
    "preprocessing", "student backbone", "student neck", "student head", "label assignment",
    "student loss",
]  # fmt: skip
REST = ["backward", "optimizer", "other"]


@pytest.mark.parametrize("detector", ["retinanet", "gfl", "fcos", "yolov3", "ssd300"])
def test_the_parts_of_a_step_of_a_dense_detector_add_up_to_its_time(trainee, data, ticks, detector):
    distilled = trainee("soft_labels", detectors=(detector,))
    with by_part(distilled) as by_parts:
        before = ticks.now
        parts = by_parts.step(data)
    step_time = ticks.now - before - 1
    teacher = ["teacher backbone", "teacher neck", "teacher head"]
    assert in_order(parts) == [*STUDENT, *teacher, "KD soft_labels", *REST]
    assert sum(parts.values()) == step_time


def test_the_parts_of_a_two_stage_step_include_proposals(trainee, data, ticks):
    distilled = trainee("mimic", **PROPOSED)
    with by_part(distilled) as charged:
        before = ticks.now
        parts = charged.step(data)
    assert {"student proposals", "teacher proposals", "KD mimic"} < parts.keys()
    assert sum(parts.values()) == ticks.now - before - 1


def test_the_time_of_a_teacher_first_read_in_a_term_is_not_part_of_the_term(trainee, data, ticks):
    distilled = trainee("rm+pfi")
    with by_part(distilled) as charged:
        parts = charged.step(data)
    assert in_order(parts)[-6:] == ["teacher head", "KD rm", "KD pfi", *REST]


def test_measuring_restores_the_model(trainee, data):
    distilled = trainee("rm")
    terms, forward = distilled.model.terms, distilled.model.teacher.backbone.forward
    with by_part(distilled) as charged:
        charged.step(data)
    assert distilled.model.terms is terms
    assert distilled.model.teacher.backbone.forward == forward
    assert "forward" not in vars(distilled.model.student.backbone)
    assert "backward" not in vars(distilled.optimizer)


# --- The bound -----------------------------------------------------------------------------


@pytest.fixture
def layer_calls(data: dict[str, Any]) -> Callable[[Trainee], tuple[Counter[str], Counter[str]]]:
    """Return a function that counts the calls of the teachers' layers.

    It returns the calls of a step's forward pass and of its replay, by the name of the layer.
    """

    def add_call(calls: Counter[str], name: str, *_: Any) -> None:
        calls[name] += 1

    def count_calls(distilled: Trainee) -> tuple[Counter[str], Counter[str]]:
        replay = replay_of(distilled, data)
        counters = []
        for run_teachers in (lambda: distilled.losses(data), replay):
            calls: Counter[str] = Counter()
            handles = [
                layer.register_forward_hook(partial(add_call, calls, name))
                for teacher in teachers_of(distilled.model).values()
                for name, layer in teacher.named_modules()
                if list(layer.parameters(recurse=False))
            ]
            run_teachers()
            for handle in handles:
                handle.remove()
            counters.append(calls)
        return counters[0], counters[1]

    return count_calls


@pytest.mark.parametrize("method", ["fitnets", "pfi", "rm", "defeat", "fgfi", "rm+pfi"])
def test_a_replay_runs_the_same_layers_of_the_teacher_as_the_step(trainee, layer_calls, method):
    step, replay = layer_calls(trainee(method))
    assert replay == step
    assert step["backbone.conv1"] == 1


def test_a_replay_runs_second_stages_too(trainee, layer_calls):
    step, replay = layer_calls(trainee("soft_labels", detectors=("faster_rcnn",)))
    assert replay == step
    assert step["roi_head.bbox_head.fc_cls"] > 0


def test_the_replay_of_a_method_that_reads_maps_only_runs_no_head(trainee, data):
    replay = replay_of(trainee("fitnets"), data)
    assert [call.part for call in replay.calls] == ["teacher backbone", "teacher neck"]


def test_proposals_that_a_method_reads_are_part_of_the_bound(trainee, data):
    parts = Counter(call.part for call in replay_of(trainee("mimic", **PROPOSED), data).calls)
    assert parts["teacher proposals"] == 1


@pytest.fixture
def cropping(study: Callable[..., Any], tmp_path: Any) -> Trainee:
    """Return a trainee of DICOD."""
    config = list(study(["rm"]).runs.values())[-1].config
    terms = resolve("dicod", {}, "retinanet", Library(), "tests")
    model = config["model"] | {"methods": terms} | classifier(terms, tmp_path)
    for key in ("teacher", "checkpoint"):
        del model[key]
    return Trainee.build({**config, "model": model})


def test_crops_are_replayed_through_the_classifier(cropping, data):
    replay = replay_of(cropping, data)
    assert {call.part for call in replay.calls} == {"teacher classifier"}
    size = cropping.model._teachers["classifier"].size
    assert all(call.args[0].shape[1:] == (3, size, size) for call in replay.calls)
    boxes = len(torch.cat([sample.gt_instances.bboxes for sample in data["data_samples"]]))
    # All layers and the stem on the objects, then the stem on predicted boxes, with gradients.
    assert [call.gradients for call in replay.calls[:3]] == [False, False, True]
    assert [len(call.args[0]) for call in replay.calls[:2]] == [boxes, boxes]


def test_the_stem_is_part_of_the_bound_with_its_backward_pass(cropping, data):
    classifier = cropping.model._teachers["classifier"]
    replay = replay_of(cropping, data)
    weight = classifier.network.conv1.weight
    operators = []
    for gradients in (False, True):
        with profile(activities=[ProfilerActivity.CPU]) as run:
            replay(gradients)
        operators.append(Counter(event.name for event in run.events()))
    layers = [layer for layer in classifier.network.modules() if isinstance(layer, nn.Conv2d)]
    stems = len(replay.calls) - 1  # on objects and on each chunk of predicted boxes
    assert operators[0]["aten::convolution"] == len(layers) + stems
    assert not operators[0]["aten::max_pool2d_with_indices_backward"]
    assert operators[1]["aten::max_pool2d_with_indices_backward"] > 0
    assert weight.grad is None


def test_what_the_student_computes_in_a_term_is_part_of_the_bound(trainee, data):
    distilled = trainee("mimic", **PROPOSED)
    replay = replay_of(distilled, data)
    (pooling,) = [call for call in replay.calls if call.part == "KD mimic"]
    assert pooling.gradients
    assert pooling.function is distilled.model.student.roi_head.bbox_roi_extractor
    replay()
    assert all(weight.grad is None for weight in distilled.model.student.parameters())


def test_read_bytes_are_the_size_of_the_neck_maps_that_a_method_reads(trainee, data):
    distilled = trainee("fitnets")
    replay = replay_of(distilled, data)
    with torch.no_grad():
        teacher = distilled.model.teacher
        maps = teacher.extract_feat(distilled.model.data_preprocessor(data, True)["inputs"])
    assert replay.read_bytes == sum(level.nbytes for level in maps)


def test_a_replay_without_gradients_through_the_teacher_needs_none_and_changes_no_teacher(
    trainee, data
):
    distilled = trainee("rm")
    before = {k: v.clone() for k, v in distilled.model.teacher.state_dict().items()}
    replay = replay_of(distilled, data)
    replay()
    assert not any(t.requires_grad for c in replay.calls for t in c.args if torch.is_tensor(t))
    after = distilled.model.teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_cached_teacher_outputs_do_not_lower_the_bound(trainee, data):
    class Cache:
        def observe(self, *_: Any) -> Any:
            pytest.fail("the replay read the cache")

    distilled = trainee("fitnets")
    distilled.model.teacher_cache = cache = Cache()
    assert len(replay_of(distilled, data).calls) == 2
    assert distilled.model.teacher_cache is cache


def test_the_parts_of_a_replay_are_those_of_its_calls(trainee, data, ticks):
    replay = replay_of(trainee("fitnets"), data)
    assert replayed(replay) == {"teacher backbone": 1, "teacher neck": 1}


def test_the_bound_of_a_round_is_the_sum_of_student_and_teacher():
    times = Times([1.0, 10.0], teacher=[0.5, 5.0], forward=[0.25, 2.0], step=[3.0, 15.0])
    assert times.bound == [1.5, 15.0]
    assert times.ratio.median == 1.5
    assert times.forward_ratio.median == pytest.approx((3 / 1.25 + 15 / 12) / 2)


def test_the_bare_student_is_a_detector_without_a_teacher(trainee, data):
    alone = trainee("rm", alone=True)
    assert not teachers_of(alone.model)
    distilled = trainee("rm")
    times = measure.times(alone, distilled, replay_of(distilled, data), data, rounds=2)
    assert all(len(values) == 2 and min(values) > 0 for values in times)


# --- Memory --------------------------------------------------------------------------------


def test_the_peak_is_the_largest_sum_of_live_tensors():
    def work() -> None:
        first = torch.empty(4 * MEGABYTE, dtype=torch.uint8)
        second = torch.empty(2 * MEGABYTE, dtype=torch.uint8)  # 6 MB in total
        del first
        third = torch.empty(3 * MEGABYTE, dtype=torch.uint8)  # 5 MB in total
        del second, third

    assert memory.peak(work) == 6 * MEGABYTE


def test_a_temporary_inside_an_expression_is_part_of_the_peak():
    ones = torch.ones(MEGABYTE)
    assert memory.peak(lambda: (ones * 2 + 1).sum()) == pytest.approx(8 * MEGABYTE, rel=1e-3)


def test_earlier_tensors_are_not_part_of_the_peak():
    earlier = torch.empty(8 * MEGABYTE, dtype=torch.uint8)
    assert memory.peak(lambda: earlier.add_(1)) < 100


def test_the_peak_of_a_part_is_the_largest_sum_while_it_ran():
    times = Clock()

    def work() -> None:
        with times.span("outer"):
            first = torch.empty(4 * MEGABYTE, dtype=torch.uint8)
            with times.span("inner"):
                second = torch.empty(2 * MEGABYTE, dtype=torch.uint8)
            del first, second
            with times.span("late"):
                torch.empty(MEGABYTE, dtype=torch.uint8)

    peaks = memory.peaks(work, times)
    assert peaks == {"outer": 6 * MEGABYTE, "inner": 6 * MEGABYTE, "late": MEGABYTE}
    assert times.switched is None


def test_the_peak_of_a_step_is_the_size_of_its_tensors(trainee, data, ballast):
    distilled, alone = trainee("pfi"), trainee("pfi", alone=True)
    for warmed_up in (distilled, alone):
        warmed_up.step(data)
    assert 1.1 * ballast > measure.peak_of(distilled, data) > ballast
    assert ballast / 10 > measure.peak_of(alone, data) > 0


def test_the_largest_peak_of_the_parts_is_the_peak_of_the_step(trainee, data, ballast):
    distilled = trainee("pfi")
    with by_part(distilled) as by_parts:
        parts = by_parts.step(data)
        peaks = by_parts.peaks(data)
    assert peaks.keys() == parts.keys()
    assert max(peaks.values()) == peaks["KD pfi"] > ballast
    assert max(peaks.values()) == pytest.approx(measure.peak_of(distilled, data), rel=0.1)


def test_extra_memory_is_the_excess_over_student_and_teacher():
    assert Memory(step=120, student=80, teacher=20).extra == pytest.approx(0.2)


# --- Waiting for the host ------------------------------------------------------------------


def test_synchronizations_are_counted_by_part(trainee, data):
    with by_part(trainee("fitnets")) as by_parts:
        synchronizations = by_parts.synchronizations(data)
    assert synchronizations["label assignment"].total() > 0
    assert "teacher backbone" not in synchronizations
    assert "KD fitnets" not in synchronizations


def test_a_term_is_profiled_as_in_its_epochs(trainee, data):
    settings = {"pfi": {"until_epoch": 1}}
    built = trainee("pfi", settings=settings)
    assert built.model.terms["pfi"].until_epoch is None
    built.model.progress = built.model.progress._replace(epoch=5)
    assert built.losses(data)["loss_pfi"][0] > 0
