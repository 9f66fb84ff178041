"""The path of a table cell in docs/explanation/architecture.md is the path of the code."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from analysis.tables.write import publish
from kd.config import plan
from kd.config.library import Library
from tests.support.paths import REPOSITORY
from tests.support.tiny import make_project

NAME = r"`((?:kd|analysis)\.[a-z_.]+)`"
TEXT = (REPOSITORY / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("### From a study row to a printed cell")[2].partition("\n## ")[0]
STEPS = re.findall(rf"^\d+\. {NAME}", SECTION, re.MULTILINE)


def code_of(name: str) -> Any:
    """Return the code of a function by its full name."""
    module, _, function = name.rpartition(".")
    return getattr(import_module(module), function).__code__


def test_every_function_of_the_section_exists() -> None:
    names = re.findall(NAME, SECTION)
    assert len(STEPS) == 8
    assert all(code_of(name) for name in names)


def test_publishing_a_study_calls_the_functions_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    steps = {code_of(name): name for name in STEPS}
    called: dict[str, None] = {}

    def record(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in steps:
            called[steps[frame.f_code]] = None

    sys.setprofile(record)
    try:
        publish(plan.plan("tiny", "tiny", Library()), "tiny", "tiny")
    finally:
        sys.setprofile(None)
    assert list(called) == STEPS
