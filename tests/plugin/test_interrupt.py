"""Ctrl-C: jobs in the queue are left to the next run unless one says otherwise."""

import os
import pty
import sys
from collections.abc import Callable, Iterator

import pytest
from snakemake_executor_plugin_submitit import interrupt
from snakemake_executor_plugin_submitit.interrupt import shall_cancel

Typed = Callable[[str], None]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
    """Sit at a terminal, and type."""
    keyboard, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(interrupt, "SECONDS", 0)
        yield lambda text: os.write(keyboard, text.encode()) and None
    os.close(keyboard)


@pytest.mark.parametrize(
    ("answer", "cancel"), [("c\n", True), ("C\n", True), ("cancel\n", True), ("\n", False),
                           ("l\n", False), ("", False)],
)  # fmt: skip
def test_the_question_and_its_answers(
    answer: str, cancel: bool, typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(answer)
    assert shall_cancel("ask", "slurm", ["57", "58"]) is cancel
    asked = capsys.readouterr().err
    assert "2 jobs are in the queue" in asked and "leave them" in asked and "cancel them" in asked


@pytest.mark.parametrize(("choice", "cancel"), [("leave", False), ("cancel", True)])
def test_nothing_is_asked_that_was_decided(
    choice: str, cancel: bool, typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shall_cancel(choice, "slurm", ["57"]) is cancel
    assert capsys.readouterr().err == ""


def test_jobs_of_this_machine_end_with_their_workflow(typed: Typed) -> None:
    assert shall_cancel("leave", "local", ["4711"])
    assert shall_cancel("ask", "debug", ["1"])


def test_without_a_terminal_jobs_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not shall_cancel("ask", "slurm", ["57"])


def test_without_any_input_jobs_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under cron or a service manager, which may close it."""
    monkeypatch.setattr(sys, "stdin", None)
    assert not shall_cancel("ask", "slurm", ["57"])
