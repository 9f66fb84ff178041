"""Epochs of terms: their place in a stand-in schedule, refusals, and the cost of the teacher."""

from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.planning.step_flops import StepFlops
from kd.config.planning.term_epochs import active_share
from kd.config.run import Run
from kd.config.selection import StudyOptions
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"
LIMITS = ("from_epoch", "until_epoch")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a tiny project: schedule ``long`` has 300 epochs, and its stand-in 24."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    for name, epochs in (("long", 300), ("short", 24)):
        text = Path("configs/schedules/tiny.yaml").read_text()
        Path(f"configs/schedules/{name}.yaml").write_text(text)
        edit(f"configs/schedules/{name}.yaml", epochs=epochs, milestones=[])
    edit("configs/scales/tiny.yaml", schedules={"long": "short"})


def distilled(method: str = "pfi", schedule: str = "long", **settings: Any) -> Run:
    """Return the run of a method with settings of its terms."""
    table = {"methods": [method], "settings": settings, "schedule": schedule}
    edit(STUDY, **{f"tables__pair__{key}": value for key, value in table.items()})
    runs = plan("tiny", "tiny", Library()).runs.values()
    (run,) = (run for run in runs if run.method)
    return run


def limits(run: Run, term: str = "pfi") -> dict[str, int]:
    settings = run.composed.terms[term]
    return {key: settings[key] for key in LIMITS if key in settings}


@pytest.mark.parametrize(
    ("settings", "scaled"),
    [
        ({"until_epoch": 280}, {"until_epoch": 22}),
        ({"until_epoch": 300}, {"until_epoch": 24}),
        ({"from_epoch": 280}, {"from_epoch": 22}),
        ({"from_epoch": 0}, {"from_epoch": 0}),
        ({"from_epoch": 100, "until_epoch": 200}, {"from_epoch": 8, "until_epoch": 16}),
        ({"until_epoch": 1}, {"until_epoch": 1}),
        ({"from_epoch": 299, "until_epoch": 300}, {"from_epoch": 23, "until_epoch": 24}),
        ({"from_epoch": 50, "until_epoch": 51}, {"from_epoch": 4, "until_epoch": 5}),
        ({}, {}),
    ],
)
def test_a_stand_in_schedule_keeps_the_share_of_the_training(
    settings: dict[str, int], scaled: dict[str, int]
) -> None:
    assert limits(distilled(pfi=settings)) == scaled


def test_a_schedule_that_is_trained_itself_keeps_the_epochs() -> None:
    edit("configs/scales/tiny.yaml", schedules={"long": "long"})
    assert limits(distilled(pfi={"until_epoch": 280})) == {"until_epoch": 280}


def test_changed_epochs_scale_the_epochs_of_terms() -> None:
    distilled(pfi={"until_epoch": 280})
    options = StudyOptions(schedule="epochs=12")
    runs = plan("tiny", "tiny", Library(), options).runs.values()
    (run,) = (run for run in runs if run.method)
    assert limits(run) == {"until_epoch": 11}


def test_a_run_without_limits_has_its_old_name() -> None:
    run = distilled()
    assert limits(run) == {} and limits(distilled(pfi={"until_epoch": 280})) != {}
    assert distilled().name == run.name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"until_epoch": 301},
            r"^configs/studies/tiny.yaml: table 'pair': settings of 'pfi': key 'until_epoch' is "
            r"301, but schedule 'long' has 300 epochs; use at most 300, or remove the key$",
        ),
        (
            {"from_epoch": 300},
            r"^configs/studies/tiny.yaml: table 'pair': settings of 'pfi': key 'from_epoch' is "
            r"300, but schedule 'long' has 300 epochs; use at most 299, or remove the key$",
        ),
        (
            {"from_epoch": 5, "until_epoch": 5},
            r"^configs/studies/tiny.yaml: table 'pair': settings of 'pfi': key 'from_epoch' is 5, "
            r"so the term would end before it begins; set it below 'until_epoch', which is 5$",
        ),
        ({"until_epoch": 0}, r"key 'until_epoch': must be greater than 0, not 0$"),
        ({"from_epoch": -1}, r"key 'from_epoch': must be greater than or equal to 0, not -1$"),
        ({"until_epoch": 2.5}, r"key 'until_epoch': must be a whole number"),
    ],
)
def test_epochs_outside_of_the_training_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        distilled(pfi=settings)


def test_a_message_names_the_preset_that_set_the_epochs() -> None:
    path = Path("configs/presets/pfi.yaml")
    path.write_text("pfi_late:\n  title: late\n  settings: {from_epoch: 400}\n")
    with pytest.raises(UserError, match=r"presets/pfi.yaml: preset 'pfi_late': settings: key 'fr"):
        distilled("pfi_late")
    with pytest.raises(UserError, match=r"tiny.yaml: table 'pair': settings of 'pfi_late': key"):
        distilled("pfi_late", pfi_late={"from_epoch": 500})
    assert limits(distilled("pfi_late", pfi_late={"from_epoch": 150}), "pfi_late") == {
        "from_epoch": 12
    }


def test_the_share_of_the_teacher_is_that_of_the_epochs_with_a_term() -> None:
    late = {"pfi": {"from_epoch": 200}}
    shares = {
        "pfi": (late, 1 / 3),
        "rm+pfi": (late, 1.0),
        "rm+fitnets": ({"rm": {"until_epoch": 100}, "fitnets": {"from_epoch": 200}}, 2 / 3),
    }
    for method, (settings, share) in shares.items():
        run = distilled(method, **settings)
        assert active_share(run.composed.terms, "detector", 24) == pytest.approx(share)
        assert active_share(run.composed.terms, "classifier", 24) == 0


def test_multiply_adds_of_the_teacher_count_for_its_epochs() -> None:
    edit("configs/scales/tiny.yaml", backbones={"r18": "r18", "r50": "r50"})
    flops = StepFlops(Library())
    whole, third = distilled(), distilled(pfi={"from_epoch": 200})
    assert whole.teacher is not None
    teacher = flops.inference(whole.teacher)
    full, part = flops.training(whole), flops.training(third)
    assert teacher and full and part
    assert full - part == pytest.approx(2 / 3 * teacher)
