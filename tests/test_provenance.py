"""What is kept of an error."""

import errno
from pathlib import Path

import pytest

from kd.provenance import reason


def test_a_reason_names_a_file_as_seen_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    full = (errno.ENOSPC, "No space left on device")
    assert reason(OSError(*full, str(tmp_path / "run" / "a.pth"))) == f"run/a.pth: {full[1]}"
    assert reason(OSError(*full, "run/a.pth")) == f"run/a.pth: {full[1]}"
    assert reason(OSError(*full, "/elsewhere/a.pth")) == f"/elsewhere/a.pth: {full[1]}"
    assert reason(OSError(*full, 3)) == "[Errno 28] No space left on device: 3"


def test_a_reason_is_a_line() -> None:
    assert reason(ValueError("one\ntwo")) == "one"
    assert reason(ValueError()) == "ValueError"
    told = (
        "Caught ValueError in worker.\nOriginal Traceback (most recent call last):\nValueError: it"
    )
    assert reason(RuntimeError(told)) == "ValueError: it"
