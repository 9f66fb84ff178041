"""Reference of the command line, generated from the help; its JSON keys are those of the output."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.build.cli import DOCUMENTS, PAGE, page
from kd.cli.main import main
from kd.cli.parser import build_parser
from kd.common.errors import UserError
from tests.support.paths import REPOSITORY
from tests.support.tiny import make_project

ARGUMENTS = {"STUDY": "demo", "DATASET": "shapes-tiny"}


def test_the_page_is_current() -> None:
    assert page() == (REPOSITORY / PAGE).read_text(), "run `python -m docs.build.cli`"


def keys(value: Any, place: str = "") -> Iterator[str]:
    """Yield the places of all values in a JSON document."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from keys(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from keys(item, f"{place}[]")
    else:
        yield place


def is_documented(key: str, documented: dict[str, str]) -> bool:
    """Return True for a documented key, and for one that contains or is within documented ones."""
    within = tuple(name.partition("*")[0] for name in documented if name.endswith(("*", "[]")))
    return (
        key in ("schema", "wall[].cpu_threads")
        or key.startswith(within)
        or any(name == key or name.startswith((f"{key}.", f"{key}[]")) for name in documented)
    )


@pytest.mark.parametrize("command", DOCUMENTS)
def test_every_key_is_documented_and_printed(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    words = [ARGUMENTS.get(word, word) for word in shlex.split(command)[1:]]
    main(words)
    printed = {*keys(json.loads(capsys.readouterr().out))}
    documented = DOCUMENTS[command]
    assert [key for key in printed if not is_documented(key, documented)] == []
    conditional = ("*", "[]", ".gpus", ".where", ".what")
    assert [key for key in documented if not key.endswith(conditional) and key not in printed] == []


def shell_lines() -> Iterator[tuple[str, str]]:
    """Yield page and command of each line in a code block of the documents that runs ``kd``."""
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    for path in pages:
        for block in re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("kd "):
                    yield str(path.relative_to(REPOSITORY)), line


def test_commands_in_documents_parse() -> None:
    refused = []
    for place, line in shell_lines():
        words = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
        if "[" in line or "|" in words or words[:1] == ["COMMAND"]:
            continue  # the usage of a command, a pipe
        try:
            build_parser().parse_args(words or ["--help"])
        except SystemExit:
            continue
        except UserError as error:
            refused.append(f"{place}: {line}: {error}")
    assert refused == []
