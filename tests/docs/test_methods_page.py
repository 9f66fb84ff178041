"""Page of methods, generated from docstrings and configuration."""

import inspect
import re

import pytest

from docs.build.methods import CAPTIONS, FACTS, PAGE, page
from kd import methods
from kd.config.library import Library
from kd.methods.base import Method
from tests.support.paths import CONFIGS, REPOSITORY

TEXT = (REPOSITORY / PAGE).read_text()


def section(name: str) -> str:
    """Return the section of a method."""
    return re.split(r"^##", TEXT.split(f"\n### {name}\n")[1], flags=re.MULTILINE)[0]


def test_the_page_is_current() -> None:
    assert page(TEXT, Library(CONFIGS)) == TEXT, "run `python -m docs.build.methods`"


@pytest.mark.parametrize("name", methods.names())
def test_a_method_has_its_settings_and_a_picture(name: str) -> None:
    assert all(
        f"| `{key}` |" in section(name)
        for key in methods.get(name).model_fields
        if key not in Method.model_fields
    )
    assert name in CAPTIONS
    assert f"](../figures/methods/{name}.png)" in section(name)


@pytest.mark.parametrize("name", methods.names())
def test_a_docstring_states_the_loss_and_the_sources_of_a_method(name: str) -> None:
    """Paragraphs of the docstring begin with the words that the page has titles for."""
    paragraphs = (inspect.getdoc(methods.get(name)) or "").split("\n\n")[1:]
    labels = [paragraph.partition(":")[0] for paragraph in paragraphs]
    assert labels[:2] == ["Loss", "Code"]
    assert {*labels} <= {*FACTS}


def test_a_setting_with_two_defaults_has_both() -> None:
    assert "| `regression_weight` | `0.0`; with two stages `1.0` |" in section("tadf")


def test_a_preset_has_the_detectors_that_differ_from_its_method() -> None:
    assert "| `tadf_neck` | the neck alone, for any detector |" in section("tadf")
    assert "`cascade_rcnn`" in section("tadf").split("| `tadf_neck` |")[1]
