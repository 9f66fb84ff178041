"""Ctrl-C leaves queued jobs to the next run unless the user decides otherwise."""

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
    """Replace stdin by a terminal; return a function that types a text."""
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
def test_only_c_and_enter_cancel_the_jobs(
    answer: str, cancel: bool, typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(answer)
    assert shall_cancel("ask", "slurm", ["57", "58"]) is cancel
    question = capsys.readouterr().err
    assert "2 jobs are in the queue" in question
    assert "leave them" in question and "cancel them" in question


@pytest.mark.parametrize(("choice", "cancel"), [("leave", False), ("cancel", True)])
def test_a_setting_replaces_the_question(
    choice: str, cancel: bool, typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shall_cancel(choice, "slurm", ["57"]) is cancel
    assert capsys.readouterr().err == ""


def test_local_jobs_are_always_cancelled(typed: Typed) -> None:
    assert shall_cancel("leave", "local", ["4711"])
    assert shall_cancel("ask", "debug", ["1"])


def test_without_a_terminal_jobs_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not shall_cancel("ask", "slurm", ["57"])


def test_without_any_input_jobs_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cron or a service manager may close stdin."""
    monkeypatch.setattr(sys, "stdin", None)
    assert not shall_cancel("ask", "slurm", ["57"])
