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

    terms = resolve(method, {}, detector, LIBRARY, "amp")
    model, data = build(detector), replace(batch(), progress=Progress(10_000, 0, 12))
    labelled = observe(model, data, frozen=False)
    labelled.losses()
    found = {name: method_of(settings) for name, settings in terms.items()}
    torch.manual_seed(0)
    widths = channels_of(model), channels_of(model)
    with_layers = teachers(terms) == {"detector"}
    adapters = {
        name: nn.ModuleDict(term.adapters(*widths) if with_layers else {})
        for name, term in found.items()
    }
    seen: dict[Any, Any] = {None: None}
    if "classifier" in teachers(terms):
        from kd.classifiers.teacher import ClassifierTeacher

        seen["classifier"] = ClassifierTeacher(*classifier(terms, tmp_path).values())
    distiller: Any = type("Terms", (), {"terms": found, "adapters": adapters})

    def distilled(low: bool) -> dict[str, float]:
        student, teacher = (random_maps(labelled, seed, dtype, low) for seed in (1, 2))
        with torch.autocast("cpu", dtype, enabled=low):
            losses = Distiller.distillation(distiller, student, {**seen, "detector": teacher}, data)
        return {
            name: float(sum(value) if isinstance(value, list) else value)
            for name, value in losses.items()
        }

    wanted, halved = distilled(low=False), distilled(low=True)
    assert wanted.keys() == halved.keys() and any(wanted.values())
    for name, value in wanted.items():
        assert halved[name] == pytest.approx(value, rel=0.01, abs=1e-9)


def random_maps(like: Any, seed: int, dtype: Any, low: bool) -> Any:
    """Return an observation of random maps in half precision, or the same ones in full."""
    import torch

    from kd.observers import observe

    torch.manual_seed(seed)

    def random(maps: Any, deviation: float) -> list[torch.Tensor]:
        rounded = [(torch.randn_like(each.float()) * deviation).to(dtype) for each in maps]
        return rounded if low else [each.float() for each in rounded]

    found = observe(like.detector, like.batch, frozen=False)
    found.stages = random(like.stages, MAGNITUDE)
    found.neck = random(like.neck, MAGNITUDE)
    scores, *rest = like.outputs
    found.outputs = random(scores, 2.0), *([each.abs() for each in random(r, 0.3)] for r in rest)
    found.assignment, found.sampled = like.assignment, like.sampled
    if "candidates" in vars(like) or hasattr(like, "sample"):
        found.candidates = like.candidates
    if hasattr(like, "proposals"):
        found.proposals = like.proposals
    return found
