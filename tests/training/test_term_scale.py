"""A term that is far weaker or stronger than detection is named once."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import kd.runtime  # noqa: F401
from kd import methods
from kd.config.run import Run
from kd.methods.pfi import PredictionGuidedImitation
from kd.profiling.profile import Extent, profile
from kd.profiling.table import describe
from kd.training.term_scale import FIRST, STEPS, TermScale, Verdict, ratios, warning
from kd.training.train import build_runner

torch.set_num_threads(1)


def probe(term: float, detection: float = 2.0) -> dict[str, list[float]]:
    return {"loss_pfi": [term, 0.0], "detection": [0.0, detection]}


def last_run(study: Callable[..., Any], method: str, **settings: Any) -> Run:
    """Return the run of the only distilled row, with settings of its only term."""
    run: Run = list(study([method], settings={method: settings}).runs.values())[-1]
    return run


def trained(run: Run, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Train for the study's five steps; return the warnings."""
    capsys.readouterr()
    build_runner(run.config, run.directory).train()
    return [line for line in capsys.readouterr().err.splitlines() if "times that of" in line]


# --- The ratio ----------------------------------------------------------------------------------


def test_a_ratio_is_of_the_norms_over_all_levels() -> None:
    norms = {"loss_rm_cls": [3.0, 4.0], "detection": [6.0, 8.0], "loss_rm_loc": [1.0, 0.0]}
    assert ratios(norms) == {"loss_rm_cls": 0.5, "loss_rm_loc": 0.1}


def test_terms_without_a_gradient_have_no_ratio() -> None:
    """Those of a batch without objects, of a weight of 0, and of the backbone."""
    assert ratios({"loss_pfi": [0.0, 0.0], "detection": [1.0, 1.0]}) == {}
    assert ratios(probe(1.0, detection=0.0)) == {}


@pytest.mark.parametrize(
    ("value", "named"), [(0.0199, True), (0.02, False), (20.0, False), (20.1, True)]
)
def test_below_a_hundredth_and_above_ten_times_a_term_is_named(value: float, named: bool) -> None:
    assert [found.term for found in TermScale().add(500, probe(value), True)] == (
        ["loss_pfi"] if named else []
    )


def test_a_term_is_judged_by_the_median_of_its_later_probes() -> None:
    scale = TermScale()
    for step in range(1, FIRST + 1):
        assert scale.add(step, probe(100.0), False) == []
    later = dict(zip(STEPS, (0.002, 9.0, 0.004), strict=True))
    found = [scale.add(step, probe(value), False) for step, value in later.items()]
    assert found == [[], [], [Verdict("loss_pfi", 0.002, 3, STEPS[-1])]]


def test_a_term_is_named_once() -> None:
    scale = TermScale()
    assert scale.add(300, probe(0.001), True)
    assert scale.add(600, probe(0.001), True) == []


def test_a_term_that_begins_later_is_judged_when_it_has_begun() -> None:
    scale = TermScale()
    assert scale.add(300, probe(0.0), True) == []
    assert [found.step for found in scale.add(600, probe(0.001), True)] == [600]


def test_a_resumed_run_does_not_name_a_term_again() -> None:
    records = [
        {"step": 3, "gradient_norm": probe(0.001)},
        {"step": 7},
        {"step": 10, "gradient_norm": probe(0.001)},
    ]
    scale = TermScale()
    scale.restore(records, epoch_steps=10)
    assert scale.add(20, probe(0.001), True) == []
    early = TermScale()
    early.restore(records[:1], epoch_steps=10)
    assert len(early.add(10, probe(0.001), True)) == 1


# --- The message --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "words"), [(0.0008, ["below 0.01", "raise weight"]), (31.0, ["above 10", "lower"])]
)
def test_the_message_has_method_term_ratio_and_setting(ratio: float, words: list[str]) -> None:
    text = warning(Verdict("loss_pfi", ratio, 3, 200), {"pfi_linear": PredictionGuidedImitation()})
    assert "\n" not in text and text.startswith("warning: ")
    for word in [*words, "pfi_linear", "loss_pfi", f"{ratio:.2g}", "step 200", "kd methods"]:
        assert word in text


def test_a_term_of_an_unknown_method_is_named_with_all_of_them() -> None:
    text = warning(Verdict("loss_new", 0.001, 1, 5), {"new": PredictionGuidedImitation()})
    assert "method 'new': the gradient of loss_new" in text and "raise its weight" in text


@pytest.mark.parametrize("name", methods.names())
def test_every_weight_named_in_a_message_is_a_setting(name: str) -> None:
    method = methods.get(name)
    assert method.weights and set(method.weights.values()) <= set(method.model_fields)


# --- A run --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weight", "word"), [(1e-7, "raise weight"), (3.0, "lower weight")])
def test_a_run_warns_once_of_a_term_out_of_scale(
    study: Callable[..., Any], capsys: pytest.CaptureFixture[str], weight: float, word: str
) -> None:
    run = last_run(study, "fitnets", weight=weight)
    (line,) = trained(run, capsys)
    assert word in line and "method 'fitnets'" in line and "loss_fitnets" in line
    records = [json.loads(text) for text in (run.directory / "log.jsonl").read_text().splitlines()]
    (stated,) = re.findall(r"is (\S+) times", line)
    (last,) = ratios(records[-1]["gradient_norm"]).values()
    assert stated == f"{last:.2g}", "the only probe after the first three"


@pytest.mark.parametrize("weight", [0.0, 0.01])
def test_a_run_is_silent_of_a_term_in_scale_and_of_no_weight(
    study: Callable[..., Any], capsys: pytest.CaptureFixture[str], weight: float
) -> None:
    assert trained(last_run(study, "fitnets", weight=weight), capsys) == []


def test_every_loss_of_a_run_has_a_weight(study: Callable[..., Any]) -> None:
    runs = study(["rm", "pfi", "soft_labels", "tadf", "defeat", "fkd", "gid", "chen"]).runs.values()
    for run in runs:
        if run.method:
            runner = build_runner(run.config, run.directory)
            model, data = runner.model.train(), next(iter(runner.train_dataloader))
            model(**model.data_preprocessor(data, True), mode="loss")
            method = model.terms[run.method]
            assert set(model.distilled) <= set(method.weights), run.method


def test_a_profile_has_each_terms_ratio(study: Callable[..., Any]) -> None:
    run = last_run(study, "soft_labels", weight=1e-9)
    run.write()
    found = profile(run.directory, Extent(steps=1))
    (ratio,) = found["terms"].values()
    assert 0 < ratio < 1e-6
    assert f"gradient of loss_soft_labels at the neck: {ratio:.2g} times" in describe(found)
    assert "below 0.01" in describe(found)
