"""A new environment, in which several processes begin at once."""

import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from kd.common import yapf_cache


def test_half_a_grammar_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([EOFError("Ran out of input"), pickle.UnpicklingError("truncated"), None])
    imported = []

    def read(name: str) -> None:
        imported.append(name)
        if error := next(found):
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
    step = [sys.executable, "-m", "kd", "predict", "run", "--threads", "1"]
    told = subprocess.run(step, env=environment, capture_output=True, text=True)
    assert told.returncode == 2
    assert told.stderr.startswith("error: the grammar of yapf") and "remove" in told.stderr
    assert told.stderr.count("\n") == 1


def test_only_half_a_file_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError):
        yapf_cache.load()
