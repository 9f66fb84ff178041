"""Long loops show a bar on a terminal and a line now and then elsewhere."""

import sys

import pytest

from kd.common import progress as module
from kd.common.progress import progress

Capture = pytest.CaptureFixture[str]


def test_a_log_file_gets_one_line_of_a_short_loop(capsys: Capture) -> None:
    assert list(progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("letters: 100% 3/3 [00:00<00:00, ")


def test_a_log_file_gets_a_line_every_few_seconds_without_control_characters(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    for _ in progress(range(10), 20, "images"):
        now += 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "images:  15% 3/20 [00:06<00:34,  2.00s/it]",
        "images:  30% 6/20 [00:12<00:28,  2.00s/it]",
        "images:  45% 9/20 [00:18<00:22,  2.00s/it]",
        "images:  50% 10/20 [00:20<00:20,  2.00s/it]",
    ]
    assert "".join(lines).isprintable()


def test_an_empty_loop_is_one_line(capsys: Capture) -> None:
    assert list(progress([], 0, "images")) == []
    errors = capsys.readouterr().err
    assert errors.startswith("images: 0") and errors.count("\n") == 1


def test_a_terminal_gets_a_bar(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    errors = capsys.readouterr().err
    assert "\r" in errors and "3/3" in errors
