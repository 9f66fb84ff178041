"""Distilled training: weights of student and teacher, adapters, non-finite losses, and the log."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.runner import Runner

import kd.runtime  # noqa: F401
from kd.common.errors import UserError
from kd.config.run import Run
from kd.models import weights
from kd.observers import Batch, Progress
from kd.training.distiller import Distiller, gradient_norms
from kd.training.loop import NonFiniteLossError
from kd.training.train import build_runner
from tests.support.states import State, changed, copied

torch.set_num_threads(1)

METHODS = ["rm", "pfi", "rm+pfi", "soft_labels"]


def train(run: Run) -> Runner:
    """Train for the study's five steps; return the runner."""
    runner = build_runner(run.config, run.directory)
    runner.train()
    return runner


def last_run(study: Callable[..., Any], method: str, **options: Any) -> Run:
    """Return the run of the only distilled row."""
    return list(study([method], **options).runs.values())[-1]


# --- Weights of the student ----------------------------------------------------------------


@pytest.fixture(scope="module")
def alone() -> dict[str, State]:
    """Return an empty cache: weights of students after five steps without a teacher, by family."""
    return {}


def train_alone(study: Callable[..., Any], family: str, cached_states: dict[str, State]) -> State:
    """Return the weights of a student trained without a teacher; cache them by family."""
    if family not in cached_states:
        runs = study(["rm"], detectors=(family,)).runs
        (student,) = (run for name, run in runs.items() if "-r18-w0.125/alone/" in name)
        cached_states[family] = copied(train(student).model)
    return cached_states[family]


@pytest.mark.parametrize("family", ["retinanet", "gfl"])
@pytest.mark.parametrize("method", METHODS)
def test_a_weight_of_zero_trains_bit_identical_weights_to_the_plain_detector(
    study, alone, family, method
):
    plain = train_alone(study, family, alone)
    weightless = {term: {"weight": 0} for term in method.split("+")}
    runner = train(last_run(study, method, settings=weightless, detectors=(family,)))
    assert len(runner.model.distilled) == {"rm": 2, "rm+pfi": 3}.get(method, 1)
    assert changed(plain, weights.detector_state(runner.model)) == []


def test_a_weight_of_zero_with_adapters_trains_the_same_weights_as_well(study, alone):
    plain = train_alone(study, "retinanet", alone)
    options = {"settings": {"pfi": {"weight": 0}}, "teacher_detector": "retinanet-wide"}
    runner = train(last_run(study, "pfi", **options))
    assert len(runner.model.adapters["pfi"]) == 5
    assert changed(plain, weights.detector_state(runner.model)) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_positive_weight_changes_the_trained_weights(study, alone, method):
    plain = train_alone(study, "retinanet", alone)
    heavy_weights = {term: {"weight": 100} for term in method.split("+")}
    state = weights.detector_state(train(last_run(study, method, settings=heavy_weights)).model)
    assert all(value.isfinite().all() for value in state.values())
    assert "backbone.conv1.weight" in changed(plain, state)


def test_the_student_has_the_same_initial_weights_as_without_a_teacher(study):
    runs = study(["pfi"], teacher_detector="retinanet-wide").runs
    _, plain, distilled = runs.values()
    states, random_states = [], []
    for run in (plain, distilled):
        model = build_runner(run.config, run.directory).model
        model.init_weights()
        states.append(weights.detector_state(model))
        random_states.append(torch.get_rng_state())
    assert changed(*states) == []
    assert torch.equal(*random_states)


# --- The teacher ---------------------------------------------------------------------------


@pytest.fixture
def distiller(study: Callable[..., Any]) -> Distiller:
    """Return a RetinaNet with a teacher that has a wider neck."""
    run = last_run(study, "rm+pfi", teacher_detector="retinanet-wide")
    return build_runner(run.config, run.directory).model


def test_the_teacher_has_its_checkpoints_weights(study):
    run = last_run(study, "rm")
    distiller = build_runner(run.config, run.directory).model
    saved = weights.read_state(run.teacher.directory / "weights.pth")
    assert changed(saved, distiller.teacher.state_dict()) == []


def test_the_teacher_stays_in_eval_mode_while_the_student_trains(distiller):
    distiller.train()
    assert all(module.training for module in distiller.student.modules())
    assert not any(module.training for module in distiller.teacher.modules())


def test_training_changes_nothing_in_the_teacher(study):
    run = last_run(study, "rm+pfi")
    runner = build_runner(run.config, run.directory)
    before = copied(runner.model.teacher)
    runner.train()
    assert changed(before, runner.model.teacher.state_dict()) == []
    assert all(parameter.grad is None for parameter in runner.model.teacher.parameters())


def test_the_teacher_is_not_a_submodule_of_the_distiller(distiller):
    module_ids = {id(module) for module in distiller.modules()}
    assert not any(id(module) in module_ids for module in distiller.teacher.modules())
    parameter_ids = {id(parameter) for parameter in distiller.parameters()}
    assert not any(id(parameter) in parameter_ids for parameter in distiller.teacher.parameters())
    assert not any(parameter.requires_grad for parameter in distiller.teacher.parameters())
    assert {key.split(".")[0] for key in distiller.state_dict()} == {"student", "adapters"}


def test_moving_the_distiller_moves_the_teacher_to_the_same_type_and_device(distiller):
    distiller.to(torch.float64)
    assert {parameter.dtype for parameter in distiller.teacher.parameters()} == {torch.float64}
    distiller.to("meta")
    devices = {value.device.type for value in distiller.teacher.state_dict().values()}
    assert devices == {"meta"}


def test_prediction_runs_the_student_only(distiller, images):
    distiller.teacher.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    distiller.teacher.backbone.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    data, distiller = images(), distiller.eval()
    with torch.no_grad():
        samples = distiller(data["inputs"], data["data_samples"], mode="predict")
        expected = distiller.student(data["inputs"], data["data_samples"], mode="predict")
    for sample, reference in zip(samples, expected, strict=True):
        assert torch.equal(sample.pred_instances.bboxes, reference.pred_instances.bboxes)


def parts_run(distiller: Distiller, data: dict[str, Any]) -> list[str]:
    """Return the backbones and necks that a step runs, in order."""
    calls: list[str] = []
    for name, model in (("student", distiller.student), ("teacher", distiller.teacher)):
        for part in ("backbone", "neck"):
            label = f"{name} {part}"
            getattr(model, part).register_forward_hook(lambda *_, label=label: calls.append(label))
    distiller.train()(data["inputs"], data["data_samples"], mode="loss")
    return calls


def test_a_step_runs_the_teacher_once_and_then_the_student(distiller, images):
    distiller.probing = True
    teacher, student = ([f"{name} backbone", f"{name} neck"] for name in ("teacher", "student"))
    assert parts_run(distiller, images()) == teacher + student


def test_the_teacher_does_not_run_during_the_warmup_of_its_only_method(study, images):
    run = last_run(study, "fgfi")
    distiller = build_runner(run.config, run.directory).model
    assert parts_run(distiller, images()) == ["student backbone", "student neck"]
    distiller.progress = Progress(step=distiller.terms["fgfi"].warmup_steps)
    assert "teacher neck" in parts_run(distiller, images())


@pytest.mark.parametrize("method", ["rm", "defeat_backbone"])
def test_only_methods_that_read_backbone_maps_observe_them(study, images, method):
    run = last_run(study, method)
    distiller = build_runner(run.config, run.directory).model
    data = distiller.data_preprocessor(images(), True)
    batch = Batch(data["inputs"], data["data_samples"])
    observation = distiller.observe_teachers(batch)["detector"]
    assert ("stages" in vars(observation)) == (method == "defeat_backbone")


@pytest.mark.parametrize("boxes", [(3, 0), (0, 0)], ids=["one-image-without", "all-images-without"])
def test_images_without_objects_give_finite_losses_and_gradients(distiller, images, boxes):
    data = images(boxes)
    losses = distiller.train()(data["inputs"], data["data_samples"], mode="loss")
    total, _ = distiller.parse_losses(losses)
    total.backward()
    gradients = [p.grad for p in distiller.parameters() if p.grad is not None]
    assert total.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    if boxes == (0, 0):
        assert losses["loss_rm_cls"] == losses["loss_rm_loc"] == 0
        assert losses["loss_pfi"][0] > 0


def test_losses_and_adapters_are_float32_under_autocast(distiller, images):
    data, adapter_dtypes = images(), []
    adapter = distiller.adapters["pfi"]["level0"]
    adapter.register_forward_hook(lambda *call: adapter_dtypes.append(call[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        losses = distiller.train()(data["inputs"], data["data_samples"], mode="loss")
    distillation_losses = [losses["loss_rm_cls"], losses["loss_rm_loc"], *losses["loss_pfi"]]
    assert {value.dtype for value in distillation_losses} == {torch.float32}
    assert adapter_dtypes == [torch.float32]
    assert all(value.isfinite() for value in distillation_losses)


def test_the_same_method_under_two_names_is_refused(study):
    with pytest.raises(UserError, match=r"'rm\+rm_class' has two variants of 'rm'"):
        last_run(study, "rm+rm_class")


def test_a_teacher_with_another_number_of_classes_is_refused(study):
    run = last_run(study, "pfi")
    path = run.teacher.directory / "weights.pth"
    state = weights.read_state(path)
    state["bbox_head.retina_cls.bias"] = torch.zeros(20 * 9)
    weights.save(path, {"state_dict": state})
    with pytest.raises(UserError, match=r"another number of classes.*retina_cls.bias is \(180,\)"):
        build_runner(run.config, run.directory)


# --- Adapters ------------------------------------------------------------------------------


def test_adapters_are_trained_and_saved_but_not_exported_with_the_detector(study):
    run = last_run(study, "pfi", teacher_detector="retinanet-wide", settings={"pfi": {"weight": 1}})
    runner = build_runner(run.config, run.directory)
    adapters = runner.model.adapters["pfi"]
    before = copied(adapters)
    runner.train()
    groups = runner.optim_wrapper.optimizer.param_groups
    optimized = {id(parameter) for group in groups for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in runner.model.parameters()}
    assert all(id(parameter) in optimized for parameter in adapters.parameters())
    assert "adapters.pfi.level0.weight" in runner.model.state_dict()
    assert "level0.weight" in changed(before, adapters.state_dict())
    plain = weights.detector_state(runner.model)
    assert plain.keys() == runner.model.student.state_dict().keys()


def test_equal_necks_need_no_adapter(study):
    run = last_run(study, "pfi")
    distiller = build_runner(run.config, run.directory).model
    assert list(distiller.adapters.parameters()) == []


# --- Losses that are not finite ------------------------------------------------------------


@pytest.fixture
def change_losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[State]]:
    """Return a function that changes the losses of one step.

    The function returns a list, to which that step appends the weights before it.
    """

    def apply(step: int, change: Callable[[dict[str, Any]], None]) -> list[State]:
        states: list[State] = []
        forward, steps = Distiller.forward, iter(range(1, 100))

        def changed_forward(self: Distiller, *args: Any, **kwargs: Any) -> Any:
            losses = forward(self, *args, **kwargs)
            if next(steps) == step:
                states.append(copied(self))
                change(losses)
            return losses

        monkeypatch.setattr(Distiller, "forward", changed_forward)
        return states

    return apply


def nan_at_level_2(losses: dict[str, Any]) -> None:
    losses["loss_pfi"][2] = losses["loss_pfi"][2] * math.nan


def infinite_term(losses: dict[str, Any]) -> None:
    losses["loss_rm_loc"] = losses["loss_rm_loc"] + math.inf


def infinite_detection_loss(losses: dict[str, Any]) -> None:
    losses["loss_cls"][0] = losses["loss_cls"][0] - math.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan_at_level_2, "step 3: loss_pfi at level 2 is nan"),
        (infinite_term, "step 3: loss_rm_loc is inf"),
        (infinite_detection_loss, "step 3: loss_cls at level 0 is -inf"),
    ],
)
def test_a_non_finite_loss_stops_the_run_before_the_optimizer_step(
    study, change_losses, change, message
):
    states = change_losses(3, change)
    run = last_run(study, "rm+pfi")
    runner = build_runner(run.config, run.directory)
    with pytest.raises(NonFiniteLossError) as caught:
        runner.train()
    assert str(caught.value).startswith(f"{message}; the training diverged: set a lower 'lr'")
    assert changed(states[0], runner.model.state_dict()) == []


def test_finite_losses_whose_sum_overflows_stop_the_run(study, change_losses):
    change_losses(1, lambda losses: losses.update(loss_rm_cls=losses["loss_cls"][0] * 0 + 3e38))
    run = last_run(study, "rm", settings={"rm": {"weight": 1e38}})
    runner = build_runner(run.config, run.directory)
    parse = runner.model.parse_losses
    runner.model.parse_losses = lambda losses: parse({**losses, "loss_more": losses["loss_rm_cls"]})
    with pytest.raises(NonFiniteLossError, match="step 1: the sum of finite losses overflows"):
        runner.train()


# --- Gradient norms and the log ------------------------------------------------------------


def test_gradient_norms_equal_values_computed_by_hand():
    """The gradient of 3x is 3 at 4 positions (norm 6); that of x^2 is 2 at 4 positions (norm 4)."""
    neck = [torch.ones(1, 2, 1, 2), torch.ones(1, 1, 1, 1)]
    fine, coarse = (level.requires_grad_() for level in neck)
    losses = {"one": (3 * fine).sum(), "by_level": [fine.square().sum(), -5 * coarse.sum()]}
    assert gradient_norms(losses, neck) == {"one": [6.0, 0.0], "by_level": [4.0, 5.0]}
    assert fine.grad is None


def test_gradient_norms_include_the_weight_and_keep_the_graph():
    neck = [torch.ones(1, 1, 1, 1, requires_grad=True)]
    loss = 10 * (2 * neck[0]).sum()
    assert gradient_norms({"loss": loss}, neck) == {"loss": [20.0]}
    loss.backward()
    assert neck[0].grad.item() == 20


def read_log(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.directory / "log.jsonl").read_text().splitlines()]


def test_the_log_has_every_term_with_its_share_and_gradient_norm(study):
    run = last_run(study, "rm+pfi+soft_labels")
    train(run)
    records = read_log(run)
    terms = {"loss_rm_cls", "loss_rm_loc", "loss_pfi", "loss_soft_labels"}
    assert [record["step"] for record in records] == [1, 2, 3, 5]
    for record in records:
        assert record["share"].keys() == terms
        assert all(record["share"][t] == pytest.approx(record[t] / record["loss"]) for t in terms)
        parts = sum(record[name] for name in {"loss_cls", "loss_bbox", *terms})
        assert record["loss"] == pytest.approx(parts, rel=1e-5)
    steps = [record["step"] for record in records if "gradient_norm" in record]
    assert steps == [1, 2, 3, 5], "the first three steps and the last step of the epoch"
    for record in records:
        assert record["gradient_norm"].keys() == terms | {"detection"}
        assert all(len(norms) == 5 for norms in record["gradient_norm"].values())
        assert all(norms[0] > 0 for norms in record["gradient_norm"].values())


def test_the_probed_detection_loss_is_the_sum_of_the_students_detection_losses(study):
    run = last_run(study, "rm")
    runner = build_runner(run.config, run.directory)
    model, data = runner.model.train(), next(iter(runner.train_dataloader))
    model.probing = True
    data = model.data_preprocessor(data, True)
    neck_maps: list[torch.Tensor] = []
    neck = model.student.neck
    neck.register_forward_hook(lambda _m, _i, maps: neck_maps.extend(maps))
    losses = model(data["inputs"], data["data_samples"], mode="loss")
    detection_losses = {n: v for n, v in losses.items() if n not in model.distilled}
    total, _ = model.parse_losses(detection_losses)
    gradients = torch.autograd.grad(total, neck_maps[-5:], retain_graph=True)
    norms = [float(gradient.norm()) for gradient in gradients]
    assert model.probed["detection"] == pytest.approx(norms)


def test_the_log_of_a_run_without_a_teacher_has_no_shares(study):
    runs = study(["rm"]).runs
    (student,) = (run for name, run in runs.items() if "-r18-w0.125/alone/" in name)
    train(student)
    (record,) = read_log(student)
    assert record["step"] == 5
    assert record["share"] == {}
    assert "gradient_norm" not in record
