"""Half precision: losses and resumed runs, and fused optimizer steps."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import kd.runtime  # noqa: F401
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.terms import method_of, resolve, teachers
from kd.models import weights
from kd.models.optimizers import PreciseOptimWrapper, fastest
from kd.training.train import build_runner, train
from tests.config.test_applicability import LIBRARY, ON_ONE, classifier
from tests.support.tiny import DISTILLED, STUDENT, TEACHER, copy_run, edit, make_project, write_run
from tests.support.training import assert_same, change, interrupted_before, log

TOLERANCE = {"bfloat16": 0.1, "float16": 0.05}
"""Relative tolerance of losses to those of float32, after the first step and up to the twelfth."""
FIRST = {"bfloat16": 0.01, "float16": 0.01}
"""Relative tolerance of the losses of the first step, from equal weights."""
STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        edit("configs/datasets/shapes-tiny.yaml", image_size=[128, 128])
        edit("configs/schedules/tiny.yaml", checkpoint_steps=2)
        train(write_run(TEACHER))
        yield


@pytest.fixture(scope="module")
def whole() -> dict[tuple[str, str], Path]:
    """Return runs by name and precision that nothing interrupted, filled as needed."""
    return {}


def trained(runs: dict[tuple[str, str], Path], name: str, precision: str) -> Path:
    if (name, precision) not in runs:
        run = copy_run(write_run(name), f"{name.split('/')[0]}-{precision}")
        if precision != "float32":
            change(run, lambda config: lower(config, precision))
        train(run)
        runs[name, precision] = run
    return runs[name, precision]


def lower(config: dict[str, Any], precision: str) -> None:
    """Change a composed configuration as a schedule's ``precision`` does."""
    config["optim_wrapper"] |= {"type": "PreciseOptimWrapper", "precision": precision}


# --- The setting ---------------------------------------------------------------------------


def test_a_schedule_sets_the_precision() -> None:
    path = Path("configs/schedules/tiny.yaml")
    before, plain = path.read_text(), config_of(STUDENT)
    try:
        edit(path, precision="bfloat16")
        lowered = config_of(STUDENT)
        edit(path, precision="float32")
        assert config_of(STUDENT) == plain
        edit(path, precision="float8")
        with pytest.raises(UserError, match=r"tiny.yaml: key 'precision': .*'bfloat16'"):
            config_of(STUDENT)
    finally:
        path.write_text(before)
    assert plain["optim_wrapper"]["type"] == "OptimWrapper"
    lower(plain, "bfloat16")
    assert lowered == plain


def config_of(name: str) -> dict[str, Any]:
    from kd.config.plan import plan

    runs = plan("tiny", "tiny", Library()).runs
    (run,) = (run for key, run in runs.items() if name in key)
    return run.config


@pytest.mark.parametrize("name", ["1x", "mini"])
def test_schedules_in_bfloat16_differ_in_that_alone(name: str) -> None:
    plain, lowered = (LIBRARY.schedule(schedule, "tests") for schedule in (name, f"{name}-bf16"))
    assert lowered == plain.model_copy(update={"precision": "bfloat16", "base": lowered.base})


OF_DIFFERENCES = {"loss_rm_cls": 3e-4, "loss_pfi": 3e-4}
"""Absolute tolerance of terms of differences of logits; the loss is 1.8.

bfloat16 rounds logits near -4.6 to 1/32, more than those of untrained networks differ by.
"""

# --- Losses --------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", [STUDENT, DISTILLED], ids=["alone", "rm+pfi"])
def test_a_training_is_near_that_in_float32(whole, name: str, precision: str) -> None:
    float32_log, lowered_log = (
        log(trained(whole, name, log_precision)) for log_precision in ("float32", precision)
    )
    assert len(lowered_log) == STEPS
    for step, (plain, lowered) in enumerate(zip(float32_log, lowered_log, strict=True)):
        for loss in (key for key in plain if key.startswith("loss")):
            near = FIRST if step == 0 else TOLERANCE
            smallest = OF_DIFFERENCES.get(loss, 1e-5)
            expected = pytest.approx(plain[loss], rel=near[precision], abs=smallest)
            assert lowered[loss] == expected, step
    assert lowered_log[0]["loss"] != float32_log[0]["loss"]


def test_weights_stay_in_float32(whole) -> None:
    state = weights.read_state(trained(whole, STUDENT, "bfloat16") / "weights.pth")
    assert {value.dtype for value in state.values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("precision", TOLERANCE)
def test_two_stages_are_near_float32_too(quiet_mmdet, build, batch, precision: str) -> None:
    """Matching and sampling are the same, so the losses of the second stage are comparable."""
    from kd.data.sampling import seed_everything

    model, data = build("faster_rcnn"), batch()
    losses_by_dtype = {}
    for dtype in (None, getattr(torch, precision)):
        copied = copy.deepcopy(model)
        optimizer = torch.optim.SGD(copied.parameters(), lr=0.01)
        for step in range(3):
            seed_everything(step)
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                losses = copied(data.inputs, data.samples, mode="loss")
            total, logged = copied.parse_losses(losses)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        losses_by_dtype[dtype] = {name: float(value.detach()) for name, value in logged.items()}
    plain, lowered = losses_by_dtype.values()
    for name in (key for key in plain if "loss" in key):
        assert lowered[name] == pytest.approx(plain[name], rel=TOLERANCE[precision], abs=1e-4)


# --- Teachers and terms --------------------------------------------------------------------


@pytest.mark.parametrize(("method", "detector"), ON_ONE)
def test_terms_of_networks_that_run_in_bfloat16(method, detector, build, batch, tmp_path) -> None:
    """In the channels-last layout, both networks run in half precision and terms in float32."""
    from dataclasses import replace

    from torch import nn

    from kd.classifiers.teacher import ClassifierTeacher
    from kd.observers import Progress, channels_of, observe
    from kd.training.distiller import Distiller

    terms = resolve(method, {}, detector, LIBRARY, "precision")
    student, teacher = (
        build(detector, seed=seed).to(memory_format=torch.channels_last) for seed in (0, 1)
    )
    teacher.requires_grad_(False).eval()
    data = replace(batch(), progress=Progress(10_000, 0, 12))
    method_terms = {name: method_of(settings) for name, settings in terms.items()}
    both = channels_of(student), channels_of(teacher)
    detects = teachers(terms) == {"detector"}
    adapters = {
        name: nn.ModuleDict(term.adapters(*both) if detects else {})
        for name, term in method_terms.items()
    }
    distiller: Any = type("Terms", (), {"terms": method_terms, "adapters": adapters})
    with torch.autocast("cpu", torch.bfloat16):
        teacher_observations: dict[Any, Any] = {
            None: None,
            "detector": observe(teacher, data, frozen=True),
        }
        if "classifier" in teachers(terms):
            teacher_observations["classifier"] = ClassifierTeacher(
                *classifier(terms, tmp_path).values()
            )
        student_observation = observe(student, data, frozen=False)
        losses = student_observation.losses()
        distilled = Distiller.distillation(
            distiller, student_observation, teacher_observations, data
        )
    assert student_observation.neck[0].dtype == torch.bfloat16
    if detects:
        assert teacher_observations["detector"].neck[0].dtype == torch.bfloat16
    for value in distilled.values():
        for part in value if isinstance(value, list) else [value]:
            assert part.dtype == torch.float32 and part.isfinite().all()
    total, _ = student.parse_losses({**losses, **distilled})
    total.backward()
    assert all(
        parameter.grad.isfinite().all()
        for parameter in student.parameters()
        if parameter.grad is not None
    )


# --- Resuming ------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_resumed_run_equals_an_uninterrupted_one(whole, precision: str) -> None:
    run = trained(whole, DISTILLED, precision)
    resumed = copy_run(run, f"resumed-in-{precision}")
    with interrupted_before(7):
        train(resumed)
    train(resumed)
    assert_same(resumed, run)


def test_an_overflow_in_float16_skips_the_step_and_halves_the_scale(
    whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overflow is no failure, and the scale is part of the resumed state."""
    run = copy_run(trained(whole, STUDENT, "float16"), "overflowing")
    make, scale = PreciseOptimWrapper.__init__, 2.0**40

    def scaled(wrapper: Any, *arguments: Any, **settings: Any) -> None:
        make(wrapper, *arguments, **settings)
        wrapper.scaler = torch.amp.GradScaler("cpu", init_scale=scale)

    resumed = copy_run(run, "overflowing-and-resumed")
    with monkeypatch.context() as patch:
        patch.setattr(PreciseOptimWrapper, "__init__", scaled)
        train(run)
        with interrupted_before(3):
            train(resumed)
    first = weights.read(resumed / "checkpoints/step00000002.pth")
    assert first["optimizer"]["loss_scaler"]["scale"] == scale / 4
    start = build_runner(json.loads((run / "config.json").read_text()), copy_run(run, "start"))
    start.model.init_weights()
    convolution = "backbone.layer2.0.conv1.weight"
    assert torch.equal(first["model"][convolution], start.model.state_dict()[convolution])
    train(resumed)
    assert_same(resumed, run)
    assert weights.read(run / "checkpoints/step00000012.pth")["optimizer"]["loss_scaler"]["scale"]


def test_a_map_of_one_cell_is_refused_where_its_gradient_is_wrong() -> None:
    run = copy_run(write_run(STUDENT), "small-images")
    change(run, lambda config: lower(config, "bfloat16"))
    change(run, narrow)
    with pytest.raises(UserError, match=r"config.json: images of 64 x 64 pixels in bfloat16"):
        train(run)
    change(run, lambda config: lower(config, "float16"))
    build_runner(json.loads((run / "config.json").read_text()), run)


def narrow(config: dict[str, Any]) -> None:
    for step in config["train_dataloader"]["dataset"]["dataset"]["pipeline"]:
        if step["type"] == "FitInto":
            step.update(width=64, height=64)


# --- The optimizer's step ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_fused_step_is_the_plain_one(name: str, clip: float | None) -> None:
    from mmengine.optim import build_optim_wrapper

    settings: dict[str, Any] = {"type": name, "lr": 0.1, "weight_decay": 0.01}
    settings |= {"momentum": 0.9} if name == "SGD" else {}
    whole: dict[str, Any] = {"type": "OptimWrapper", "optimizer": settings}
    whole |= {"clip_grad": {"max_norm": clip}} if clip else {}
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 3))
    inputs = torch.rand(8, 2, 3, 9, 9)
    moved = []
    for config in (whole, fastest(whole)):
        copied = copy.deepcopy(network)
        wrapper = build_optim_wrapper(copied, copy.deepcopy(config))
        for batch in inputs:
            wrapper.update_params(copied(batch).square().mean())
        moved.append([parameter.detach() for parameter in copied.parameters()])
    assert wrapper.optimizer.param_groups[0]["fused"] is True
    for plain, fused in zip(*moved, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-6, atol=1e-6)


def test_a_run_resumes_with_the_form_of_step_that_it_began_with(whole) -> None:
    """Checkpoints of versions before fused steps hold a plain optimizer."""
    run = copy_run(trained(whole, STUDENT, "float32"), "begun-plain")
    with interrupted_before(5):
        train(run)
    path = run / "checkpoints/step00000004.pth"
    content = weights.read(path)
    content["optimizer"]["param_groups"][0]["fused"] = None
    weights.save(path, content)
    config = json.loads((run / "config.json").read_text())
    runner = build_runner(config, run)
    runner.train()
    assert runner.optim_wrapper.optimizer.param_groups[0]["fused"] is None
