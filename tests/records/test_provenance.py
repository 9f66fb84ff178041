"""Record of an error and of the machine."""

import errno
import platform
from pathlib import Path

import pytest
import torch

import kd
from kd.records.provenance import commit, environment, reason


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
    message = (
        "Caught ValueError in worker.\nOriginal Traceback (most recent call last):\nValueError: it"
    )
    assert reason(RuntimeError(message)) == "ValueError: it"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo; run on Linux")
def test_the_record_names_the_processor_and_its_instructions() -> None:
    """Check the properties on which the last digits of a result depend."""
    record = environment()
    cpu_info = Path("/proc/cpuinfo").read_text()
    names = [line.split(":")[1].strip() for line in cpu_info.splitlines() if "model name" in line]
    assert (names or [platform.machine()])[0] in record["cpu"]
    assert record["instructions"] == torch.backends.cpu.get_cpu_capability()


def test_an_installed_package_has_the_commit_of_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kd, "__file__", str(tmp_path / "site-packages/kd/__init__.py"))
    monkeypatch.delenv("KD_COMMIT", raising=False)
    assert commit() is None
    monkeypatch.setenv("KD_COMMIT", "0123abcd")
    assert commit() == "0123abcd"
    monkeypatch.setenv("KD_COMMIT", "")
    assert commit() is None


def test_a_checkout_has_its_own_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_COMMIT", "0123abcd")
    assert commit() != "0123abcd"
