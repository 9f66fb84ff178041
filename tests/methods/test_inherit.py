"""Students that start from their teacher's neck and head (``start: inherit``)."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import kd.runtime  # noqa: F401
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.run import Run
from kd.config.terms import check_readable, resolve
from kd.models import weights
from kd.models.inherit import inherit
from kd.training.train import build_runner
from tests.support.paths import CONFIGS
from tests.support.states import changed, copied
from tests.support.training import interrupted_before

torch.set_num_threads(1)
INHERIT = {"fgd": {"start": "inherit"}}


class Tiny(nn.Module):
    """Detector with a backbone, a neck and a head of given widths."""

    def __init__(self, neck: int, classes: int, name: str = "bbox_head") -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.neck = nn.Linear(2, neck)
        setattr(self, name, nn.ModuleDict({"tower": nn.Linear(3, 3), "cls": nn.Linear(3, classes)}))


def last_run(study: Callable[..., Any], method: str, **options: Any) -> Run:
    """Return the run of the only distilled row."""
    return list(study([method], **options).runs.values())[-1]


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the logged lines on what was copied."""
    caplog.set_level(logging.INFO)
    return lambda: [m for m in caplog.messages if m.startswith("student starts from")]


# --- Copying -------------------------------------------------------------------------------


def test_tensors_of_equal_name_and_shape_are_copied_outside_of_the_backbone():
    student, teacher = Tiny(4, 5), Tiny(4, 7)
    before = copied(student)
    line = inherit(student, teacher)
    copied_names = {"neck.weight", "neck.bias", "bbox_head.tower.weight", "bbox_head.tower.bias"}
    assert {*changed(before, student.state_dict())} == copied_names
    assert all(student.state_dict()[n].equal(teacher.state_dict()[n]) for n in copied_names)
    assert line == (
        "student starts from the teacher's neck and head: 4 of 6 tensors copied; "
        "not copied: bbox_head.cls (of another shape)"
    )


def test_the_line_names_modules_that_the_teacher_lacks():
    line = inherit(Tiny(4, 5), Tiny(4, 5, name="roi_head"))
    assert line.endswith(
        "2 of 6 tensors copied; not copied: bbox_head.tower (absent in the teacher), "
        "bbox_head.cls (absent in the teacher)"
    )


def test_nothing_to_copy_is_an_error():
    student, teacher = Tiny(4, 5), Tiny(3, 5, name="roi_head")
    with pytest.raises(UserError, match=r"'start': inherit copies .* set 'start: own'"):
        inherit(student, teacher)


def test_memory_is_not_shared_with_the_teacher():
    student, teacher = Tiny(4, 5), Tiny(4, 5)
    inherit(student, teacher)
    with torch.no_grad():
        student.neck.weight.zero_()
    assert teacher.neck.weight.any()


# --- Training ------------------------------------------------------------------------------


def initial_states(study: Callable[..., Any], **options: Any) -> tuple[Any, Any, Any]:
    """Return the initial weights of student alone and distilled, and those of the teacher."""
    runs = study(["fgd"], **options).runs
    _, alone, distilled = runs.values()
    states = []
    for run in (alone, distilled):
        model = build_runner(run.config, run.directory).model
        model.init_weights()
        states.append(weights.detector_state(model))
    return *states, model.teacher.state_dict()


def test_a_student_starts_from_the_neck_and_head_of_its_teacher(study):
    alone, distilled, teacher = initial_states(study, settings=INHERIT)
    differing = changed(alone, distilled)
    assert differing and not any(name.startswith("backbone.") for name in differing)
    same = {name for name in distilled if name in teacher and distilled[name].equal(teacher[name])}
    assert {name for name in differing if name not in same} == set()
    unchanged = {
        name for name in alone if name not in differing and not name.startswith("backbone.")
    }
    shapes_differ = {name for name in unchanged if alone[name].shape != teacher[name].shape}
    assert shapes_differ == {
        *(f"neck.lateral_convs.{level}.conv.weight" for level in range(3)),
        "neck.fpn_convs.3.conv.weight",  # its input is a map of the backbone
    }
    assert any(name.startswith("bbox_head.") for name in differing)


def test_a_student_starts_on_its_own_by_default(study):
    alone, distilled, _ = initial_states(study)
    assert changed(alone, distilled) == []


def test_a_resumed_training_ends_with_the_same_weights_and_copies_nothing(study, messages):
    run = last_run(study, "fgd", settings=INHERIT)
    whole = build_runner(run.config, run.directory / "whole")
    whole.train()
    (line,) = messages()
    assert re.search(r"(\d+) of (\d+) tensors copied; not copied: neck\.lateral_convs\.0", line)
    for hook in run.config["custom_hooks"]:
        if hook["type"] == "Checkpoints":
            hook["steps"] = 2
    with interrupted_before(3):
        build_runner(run.config, run.directory).train()
    resumed = build_runner(run.config, run.directory)
    resumed.train()
    assert len(messages()) == 2  # of the whole training and of the interrupted one
    assert changed(copied(whole.model), resumed.model.state_dict()) == []


# --- Planning ------------------------------------------------------------------------------


def test_a_method_without_a_teacher_detector_cannot_inherit():
    library = Library(CONFIGS)
    terms = resolve("dicod", {"dicod": {"start": "inherit"}}, "retinanet", library, "tests")
    with pytest.raises(UserError, match=r"'dicod' has 'start: inherit', but its teacher is no"):
        check_readable(terms, "retinanet", None, library, "tests")


def test_only_a_run_that_inherits_has_the_setting():
    library = Library(CONFIGS)
    (default,) = resolve("fgd", {}, "retinanet", library, "tests").values()
    (inherited,) = resolve("fgd_inherit", {}, "retinanet", library, "tests").values()
    assert "start" not in default and inherited == default | {"start": "inherit"}
