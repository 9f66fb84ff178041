"""Terms on maps of half precision, under autocast, are those on the same maps in float32."""

from dataclasses import replace
from typing import Any

import pytest

from kd.config.terms import method_of, resolve, teachers
from tests.config.test_applicability import LIBRARY, ON_ONE, classifier

MAGNITUDE = 100.0
"""Standard deviation of the features: their squares overflow fp16."""


@pytest.fixture(params=["float16", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    import torch

    return getattr(torch, request.param)


@pytest.mark.parametrize(("method", "detector"), ON_ONE)
def test_within_a_percent_of_float32(method, detector, dtype, build, batch, tmp_path):
    import torch
    from torch import nn

    from kd.observers import Progress, channels_of, observe
    from kd.training.distiller import Distiller

    settings_of_terms = resolve(method, {}, detector, LIBRARY, "amp")
    model, data = build(detector), replace(batch(), progress=Progress(10_000, 0, 12))
    labeled = observe(model, data, frozen=False)
    labeled.losses()
    methods = {name: method_of(settings) for name, settings in settings_of_terms.items()}
    torch.manual_seed(0)
    widths = channels_of(model), channels_of(model)
    with_layers = teachers(settings_of_terms) == {"detector"}
    adapters = {
        name: nn.ModuleDict(instance.adapters(*widths) if with_layers else {})
        for name, instance in methods.items()
    }
    teacher_of_kind: dict[Any, Any] = {None: None}
    if "classifier" in teachers(settings_of_terms):
        from kd.classifiers.teacher import ClassifierTeacher

        teacher_of_kind["classifier"] = ClassifierTeacher(
            *classifier(settings_of_terms, tmp_path).values()
        )
    distiller: Any = type("Terms", (), {"terms": methods, "adapters": adapters})

    def distilled(low: bool) -> dict[str, float]:
        student, teacher = (random_maps(labeled, seed, dtype, low) for seed in (1, 2))
        with torch.autocast("cpu", dtype, enabled=low):
            losses = Distiller.distillation(
                distiller, student, {**teacher_of_kind, "detector": teacher}, data
            )
        return {
            name: float(sum(value) if isinstance(value, list) else value)
            for name, value in losses.items()
        }

    full, rounded = distilled(low=False), distilled(low=True)
    assert full.keys() == rounded.keys() and any(full.values())
    for name, value in full.items():
        assert rounded[name] == pytest.approx(value, rel=0.01, abs=1e-9)


def random_maps(like: Any, seed: int, dtype: Any, low: bool) -> Any:
    """Return an observation of random maps in half precision, or the same ones in full."""
    import torch

    from kd.observers import observe

    torch.manual_seed(seed)

    def random(maps: Any, deviation: float) -> list[torch.Tensor]:
        rounded = [(torch.randn_like(level.float()) * deviation).to(dtype) for level in maps]
        return rounded if low else [level.float() for level in rounded]

    observation = observe(like.detector, like.batch, frozen=False)
    observation.stages = random(like.stages, MAGNITUDE)
    observation.neck = random(like.neck, MAGNITUDE)
    scores, *rest = like.outputs
    observation.outputs = (
        random(scores, 2.0),
        *([level.abs() for level in random(branch, 0.3)] for branch in rest),
    )
    if "towers" in vars(like):
        branches = ([random(levels, 1.0) for levels in branch] for branch in like.towers)
        observation.towers = type(like.towers)(*branches)
    observation.assignment, observation.sampled = like.assignment, like.sampled
    if "candidates" in vars(like) or hasattr(like, "sample"):
        observation.candidates = like.candidates
    if hasattr(like, "proposals"):
        observation.proposals = like.proposals
    return observation
