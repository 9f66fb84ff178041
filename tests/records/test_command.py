"""The command line in the provenance of a run."""

import sys

import pytest

from kd.records.provenance import command


@pytest.mark.parametrize("program", ["/env/bin/kd", "/project/kd/__main__.py"])
def test_the_command_begins_with_the_name_of_the_program(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "train", "results/a b"])
    assert command() == "kd train 'results/a b'"
