"""yapf is imported even while another process writes its grammar files."""

import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from kd.common import yapf_cache


def test_half_a_grammar_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([EOFError("Ran out of input"), pickle.UnpicklingError("truncated"), None])
    imported = []

    def read(name: str) -> None:
        imported.append(name)
        if error := next(results):
            raise error

    monkeypatch.setattr(importlib, "import_module", read)
    yapf_cache.load()
    assert imported == ["yapf"] * 3


def test_a_damaged_grammar_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import yapf"], env=environment, check=True)
    written = [path for path in tmp_path.rglob("*.pickle") if path.stat().st_size]
    assert written
    for path in written:
        path.write_bytes(b"")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}", encoding="utf-8")
    step = [sys.executable, "-m", "kd", "predict", str(run), "--threads", "1"]
    process = subprocess.run(step, env=environment, capture_output=True, text=True)
    assert process.returncode == 2
    assert (
        process.stderr.startswith("error: the cache of yapf's grammar")
        and "delete" in process.stderr
    )
    assert process.stderr.count("\n") == 1


def test_other_import_errors_are_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError):
        yapf_cache.load()
