"""Text files are UTF-8 in every locale, and a terminal without Unicode causes no failure."""

import ast
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kd.common.files import printable
from tests.support.paths import REPOSITORY
from tests.support.tiny import make_project

FOLDERS = ("kd", "analysis", "workflow", "benchmarks")
POOR = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
"""An environment in which files and the terminal have the encoding ASCII."""


def sources() -> list[Path]:
    paths = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    return [path for path in paths if "tests" not in path.relative_to(REPOSITORY).parts]


def unencoded(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of calls that read or write text in the locale's encoding."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _takes_encoding(call):
            options = {keyword.arg: keyword.value for keyword in call.keywords}
            if "encoding" not in options:
                yield call.lineno


def _takes_encoding(call: ast.Call) -> bool:
    options = {keyword.arg for keyword in call.keywords}
    words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    if isinstance(call.func, ast.Name):
        return call.func.id == "open" and not _is_binary(call, 1)
    if not isinstance(call.func, ast.Attribute):
        return False
    name, owner = call.func.attr, ast.unparse(call.func.value)
    if name in ("read_text", "write_text", "TextIOWrapper"):
        return True
    if owner == "subprocess":
        return bool({"text", "universal_newlines", "errors"} & options)
    if name in ("fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return "w" in words or "r" in words
    return name == "open" and owner not in ("Image", "os", "webbrowser") and not _is_binary(call, 0)


def _is_binary(call: ast.Call, position: int) -> bool:
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    modes += call.args[position : position + 1]
    nodes = (node for mode in modes for node in ast.walk(mode))
    words = [node.value for node in nodes if hasattr(node, "value")]
    return bool(words) and all("b" in word for word in words if isinstance(word, str))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("open(p)", [1]),
        ("open(p, 'rb')", []),
        ("open(p, encoding='utf-8')", []),
        ("p.open('w')", [1]),
        ("p.open('wb')", []),
        ("x = 1\np.read_text()", [2]),
        ("p.write_text(t)", [1]),
        ("write_text(p, t)", []),
        ("subprocess.run(c, text=True)", [1]),
        ("subprocess.run(c, encoding='utf-8')", []),
        ("subprocess.run(c)", []),
        ("Image.open(p)", []),
    ],
)
def test_a_call_without_an_encoding_is_detected(text: str, lines: list[int]) -> None:
    assert list(unencoded(ast.parse(text))) == lines


def test_no_call_depends_on_the_locale() -> None:
    places = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in sources()
        for line in unencoded(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(sources()) > 100
    assert places == []


def test_no_call_in_a_rule_depends_on_the_locale() -> None:
    rules = [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "workflow").rglob("*.smk"))]
    assert len(rules) > 5
    for path in rules:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(read_text|write_text|open)\((?![^)]*encoding)|text=True", text), (
            path
        )


def test_characters_that_an_output_lacks_become_question_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert printable("34.8 ± 0.2 → 木") == "34.8 ± 0.2 ? ?"


@pytest.mark.parametrize("poor", [POOR, {"PYTHONIOENCODING": "latin-1"}], ids=["C", "Latin-1"])
@pytest.mark.parametrize("step", ["table", "status", "report"])
def test_a_command_succeeds_in_a_locale_without_unicode(
    tmp_path: Path, step: str, poor: dict[str, str]
) -> None:
    project = make_project(tmp_path, data=False)
    study = project / "configs/studies/tiny.yaml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("One pair", "Ein Paar 木 ±"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "kd", step, "tiny", "--scale", "tiny"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **poor},
        capture_output=True,
    )
    problems = [line for line in done.stderr.splitlines() if not line.startswith(b"written to ")]
    assert (done.returncode, problems) == (0, [])
    for path in (project / "results").rglob("table.md"):
        assert "Ein Paar 木" in path.read_text(encoding="utf-8")
