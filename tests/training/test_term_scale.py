"""Warnings about terms whose gradient is far smaller or larger than that of detection."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import kd.runtime  # noqa: F401
from kd import methods
from kd.config.run import Run
from kd.methods.features.pfi import PredictionGuidedImitation
from kd.profiling.profile import Extent, profile
from kd.profiling.table import describe
from kd.training.term_scale import FIRST_PROBES, PROBE_STEPS, TermScale, Verdict, ratios, warning
from kd.training.train import build_runner

torch.set_num_threads(1)


def probe(term: float, detection: float = 2.0) -> dict[str, list[float]]:
    """Return gradient norms at two levels, of a term and of detection."""
    return {"loss_pfi": [term, 0.0], "detection": [0.0, detection]}


def last_run(study: Callable[..., Any], method: str, **settings: Any) -> Run:
    """Return the run of the only distilled row, with settings of its only term."""
    run: Run = list(study([method], settings={method: settings}).runs.values())[-1]
    return run


def warnings_of(run: Run, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Train for the study's five steps; return the warnings."""
    capsys.readouterr()
    build_runner(run.config, run.directory).train()
    return [line for line in capsys.readouterr().err.splitlines() if "times that of" in line]


# --- The ratio ----------------------------------------------------------------------------------


def test_a_ratio_divides_norms_over_all_levels() -> None:
    norms = {"loss_rm_cls": [3.0, 4.0], "detection": [6.0, 8.0], "loss_rm_loc": [1.0, 0.0]}
    assert ratios(norms) == {"loss_rm_cls": 0.5, "loss_rm_loc": 0.1}


def test_terms_without_a_gradient_have_no_ratio() -> None:
    """A gradient is zero in a batch without objects, with a weight of 0, or below the neck."""
    assert ratios({"loss_pfi": [0.0, 0.0], "detection": [1.0, 1.0]}) == {}
    assert ratios(probe(1.0, detection=0.0)) == {}


@pytest.mark.parametrize(
    ("norm", "terms"),
    [(0.0199, ["loss_pfi"]), (0.02, []), (20.0, []), (20.1, ["loss_pfi"])],
)
def test_terms_below_a_hundredth_or_above_ten_times_detection_get_a_verdict(
    norm: float, terms: list[str]
) -> None:
    assert [verdict.term for verdict in TermScale().add(500, probe(norm), True)] == terms


def test_a_term_is_judged_by_the_median_of_its_later_probes() -> None:
    scale = TermScale()
    for step in range(1, FIRST_PROBES + 1):
        assert scale.add(step, probe(100.0), False) == []
    later_norms = dict(zip(PROBE_STEPS, (0.002, 9.0, 0.004), strict=True))
    verdicts = [scale.add(step, probe(norm), False) for step, norm in later_norms.items()]
    assert verdicts == [[], [], [Verdict("loss_pfi", 0.002, 3, PROBE_STEPS[-1])]]


def test_a_term_gets_one_verdict() -> None:
    scale = TermScale()
    assert scale.add(300, probe(0.001), True)
    assert scale.add(600, probe(0.001), True) == []


def test_a_term_that_begins_later_is_judged_at_its_first_gradient() -> None:
    scale = TermScale()
    assert scale.add(300, probe(0.0), True) == []
    assert [verdict.step for verdict in scale.add(600, probe(0.001), True)] == [600]


def test_a_resumed_run_does_not_warn_of_a_term_again() -> None:
    records = [
        {"step": 3, "gradient_norm": probe(0.001)},
        {"step": 7},
        {"step": 10, "gradient_norm": probe(0.001)},
    ]
    scale = TermScale()
    scale.restore(records, epoch_steps=10)
    assert scale.add(20, probe(0.001), True) == []
    before_the_warning = TermScale()
    before_the_warning.restore(records[:1], epoch_steps=10)
    assert len(before_the_warning.add(10, probe(0.001), True)) == 1


def test_the_line_of_the_start_has_the_median_of_the_first_probes_of_each_term() -> None:
    scale = TermScale()
    for step, norm in enumerate((2.0, 8.0, 4.0), start=1):
        scale.add(step, probe(norm), False)
    scale.add(PROBE_STEPS[0], probe(1000.0), False)
    assert scale.start().endswith("over that of detection: loss_pfi 2")


def test_a_start_without_terms_has_no_line() -> None:
    scale = TermScale()
    scale.add(1, probe(0.0), False)
    assert scale.start() == ""


# --- The message --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "words"), [(0.0008, ["below 0.01", "raise weight"]), (31.0, ["above 10", "lower"])]
)
def test_the_message_has_method_term_ratio_and_setting(ratio: float, words: list[str]) -> None:
    text = warning(Verdict("loss_pfi", ratio, 3, 200), {"pfi_linear": PredictionGuidedImitation()})
    assert "\n" not in text and text.startswith("warning: ")
    for word in [*words, "pfi_linear", "loss_pfi", f"{ratio:.2g}", "step 200", "kd methods"]:
        assert word in text


def test_the_warning_of_a_term_without_a_known_weight_has_the_methods_name() -> None:
    text = warning(Verdict("loss_new", 0.001, 1, 5), {"new": PredictionGuidedImitation()})
    assert "method 'new': the gradient of loss_new" in text and "raise its weight" in text


@pytest.mark.parametrize("name", methods.names())
def test_every_weight_in_a_message_is_a_setting_of_its_method(name: str) -> None:
    method = methods.get(name)
    assert method.weights and set(method.weights.values()) <= set(method.model_fields)


# --- A run --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weight", "word"), [(1e-7, "raise weight"), (3.0, "lower weight")])
def test_a_run_warns_once_about_a_term_out_of_scale(
    study: Callable[..., Any], capsys: pytest.CaptureFixture[str], weight: float, word: str
) -> None:
    run = last_run(study, "fitnets", weight=weight)
    (line,) = warnings_of(run, capsys)
    assert word in line and "method 'fitnets'" in line and "loss_fitnets" in line
    records = [json.loads(text) for text in (run.directory / "log.jsonl").read_text().splitlines()]
    (printed_ratio,) = re.findall(r"is (\S+) times", line)
    (last_ratio,) = ratios(records[-1]["gradient_norm"]).values()
    assert printed_ratio == f"{last_ratio:.2g}", "the only probe after the first three"


def test_a_run_prints_the_scale_of_its_terms_at_the_start(
    study: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = last_run(study, "fitnets", weight=0.01)
    caplog.set_level(logging.INFO)
    build_runner(run.config, run.directory).train()
    lines = [line for line in caplog.messages if "at the start" in line]
    assert len(lines) == 1 and "over that of detection: loss_fitnets 0." in lines[0]


@pytest.mark.parametrize("weight", [0.0, 0.01])
def test_a_run_does_not_warn_of_a_term_in_scale_or_without_weight(
    study: Callable[..., Any], capsys: pytest.CaptureFixture[str], weight: float
) -> None:
    assert warnings_of(last_run(study, "fitnets", weight=weight), capsys) == []


def test_every_loss_of_a_run_has_a_weight(study: Callable[..., Any]) -> None:
    runs = study(["rm", "pfi", "soft_labels", "tadf", "defeat", "fkd", "gid", "chen"]).runs.values()
    for run in runs:
        if run.method:
            runner = build_runner(run.config, run.directory)
            model, data = runner.model.train(), next(iter(runner.train_dataloader))
            model(**model.data_preprocessor(data, True), mode="loss")
            method = model.terms[run.method]
            assert set(model.distilled) <= set(method.weights), run.method


def test_a_profile_has_the_ratio_of_each_term(study: Callable[..., Any]) -> None:
    run = last_run(study, "soft_labels", weight=1e-9)
    run.write()
    cost = profile(run.directory, Extent(steps=1))
    (ratio,) = cost["terms"].values()
    assert 0 < ratio < 1e-6
    assert f"gradient of loss_soft_labels at the neck: {ratio:.2g} times" in describe(cost)
    assert "below 0.01" in describe(cost)
