"""A tiny project without data, and a function that plans its study."""

from pathlib import Path

import pytest

from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.selection import StudyOptions
from tests.support.tiny import make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


@pytest.fixture
def planned():
    """Return a function from the number of seeds to the plan of the tiny study."""

    def planned(seeds: int | None = 3, **selection: list[str]) -> Plan:
        return plan("tiny", "tiny", Library(), StudyOptions(seeds=seeds, **selection))

    return planned
