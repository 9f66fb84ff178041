"""Keys of rehearsals: equal for trainings whose steps compute the same."""

import copy
from pathlib import Path
from typing import Any

import pytest

from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.config.selection import StudyOptions
from kd.resources.rehearsals import rehearsal_key
from tests.support.tiny import make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def distilled(**options: Any) -> Run:
    """Return the distilled run with RM and PFI."""
    runs = plan("tiny", "tiny", Library(), StudyOptions(**options)).runs.values()
    return next(run for run in runs if run.method == "rm+pfi")


@pytest.mark.parametrize("schedule", ["lr=0.5", "epochs=7", "milestones=[2]", "clip_grad=2.5"])
def test_rates_and_lengths_share_a_rehearsal(schedule: str) -> None:
    assert rehearsal_key(distilled(schedule=schedule).config) == rehearsal_key(distilled().config)


@pytest.mark.parametrize("schedule", ["batch_size=8", "optimizer=AdamW", "precision=bfloat16"])
def test_another_computation_has_another_rehearsal(schedule: str) -> None:
    assert rehearsal_key(distilled(schedule=schedule).config) != rehearsal_key(distilled().config)


@pytest.mark.parametrize("value", [[0.5, 2.0], [0.1, 2.0]])
@pytest.mark.parametrize("place", ["train_dataloader", "model"])
def test_sizes_of_images_and_networks_are_compared(place: str, value: list[float]) -> None:
    config = copy.deepcopy(distilled().config)
    changes = {"train_dataloader": "ratio_range", "model": "widen_factor"}
    config[place]["nested"] = [{changes[place]: value}]
    other = copy.deepcopy(config)
    other[place]["nested"][0][changes[place]] = [0.8, 1.2]
    assert rehearsal_key(config) != rehearsal_key(other)


def test_seeds_share_a_rehearsal_and_networks_do_not() -> None:
    runs = [*plan("tiny", "tiny", Library(), StudyOptions(seeds=3, teacher_seeds="paired"))
            .runs.values()]  # fmt: skip
    keys = {rehearsal_key(run.config) for run in runs}
    assert (len(runs), len(keys)) == (12, 4)


def test_a_weight_of_zero_has_a_rehearsal_of_its_own() -> None:
    config = distilled().config
    (term,) = (term for name, term in config["model"]["methods"].items() if name == "pfi")
    weights = {key: value for key, value in term.items() if key.startswith("weight")}
    assert weights
    for key, value in weights.items():
        keys = []
        for changed in (2 * value, 0.0):
            other = copy.deepcopy(config)
            other["model"]["methods"]["pfi"][key] = changed
            keys.append(rehearsal_key(other))
        assert keys[0] == rehearsal_key(config) != keys[1]
