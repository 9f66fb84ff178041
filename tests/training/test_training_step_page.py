"""The page ``training-step.md`` names functions that exist, in the order of their calls."""

import importlib
import inspect
import re
import sys
from functools import cached_property
from types import CodeType, FrameType
from typing import Any

import pytest
import torch

from kd.config.composed import read_config
from kd.models import weights
from kd.training.loop import ResumableEpochLoop
from kd.training.train import build_runner
from tests.support.paths import REPOSITORY
from tests.support.tiny import DISTILLED, TEACHER, make_project, write_run

PAGE = (REPOSITORY / "docs/explanation/training-step.md").read_text(encoding="utf-8")
NAME = r"`((?:kd|mmdet|mmengine)\.[\w.]+)`"
CONDITIONAL = {"kd.training.loop.FiniteLoss", "kd.training.teacher_cache.TeacherCache.observe"}
"""A class, whose hook has wrapped a function before, and the function of another option."""


class StepEnded(Exception):  # noqa: N818
    """The traced step has ended."""


def resolve(name: str) -> Any:
    """Return what a dotted name names; AttributeError if it does not exist."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = inspect.getattr_static(value, part)
        return value
    raise AttributeError(name)


def code_of(name: str) -> CodeType:
    """Return the code of a function, method or property."""
    function = resolve(name)
    if isinstance(function, cached_property):
        function = function.func
    return inspect.unwrap(function).__code__


def items() -> list[str]:
    """Return the items of the page's numbered list."""
    before_end = PAGE.partition("## Other detectors")[0]
    return re.findall(r"^\d+\. (.*?)(?=^\d+\. |^#|\Z)", before_end, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[CodeType]:
    """Return the code that the first step of a distilled run calls, in the order of first calls."""
    order: dict[CodeType, None] = {}

    def record(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            order.setdefault(frame.f_code)

    def end(*_: Any) -> None:
        sys.setprofile(None)
        raise StepEnded

    def traced_epoch(loop: ResumableEpochLoop) -> None:
        run_iter = loop.run_iter
        remaining = iter([run_iter, end])
        loop.run_iter = lambda *arguments: next(remaining)(*arguments)  # type: ignore[method-assign]
        sys.setprofile(record)
        run_epoch(loop)

    torch.set_num_threads(1)
    run_epoch = ResumableEpochLoop.run_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("step")))
        runner = runner_of_distilled_run()
        patch.setattr(ResumableEpochLoop, "run_epoch", traced_epoch)
        try:
            with pytest.raises(StepEnded):
                runner.train()
        finally:
            sys.setprofile(None)
    return list(order)


def runner_of_distilled_run() -> Any:
    """Return the runner of a student with ``rm+pfi``, whose teacher has random weights."""
    teacher, student = write_run(TEACHER), write_run(DISTILLED)
    model = build_runner(read_config(teacher), teacher).model
    weights.save(teacher / "weights.pth", {"state_dict": model.state_dict()})
    return build_runner(read_config(student), student)


@pytest.mark.parametrize("name", sorted({*re.findall(NAME, PAGE)}))
def test_every_name_on_the_page_exists(name: str) -> None:
    assert resolve(name) is not None


def test_the_list_is_in_the_order_of_the_first_calls(calls: list[CodeType]) -> None:
    names = [re.findall(NAME, item)[0] for item in items()]
    assert len(names) == 34
    assert sorted(names, key=lambda name: calls.index(code_of(name))) == names


def test_the_step_calls_every_function_in_the_list(calls: list[CodeType]) -> None:
    names = {name for item in items() for name in re.findall(NAME, item)}
    assert names > CONDITIONAL
    assert [name for name in sorted(names - CONDITIONAL) if code_of(name) not in calls] == []
