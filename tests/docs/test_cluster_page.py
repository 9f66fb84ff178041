"""Messages on the page about clusters are those that the code prints."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

PAGE = (REPOSITORY / "docs/how-to/cluster.md").read_text(encoding="utf-8")
SOURCES = [
    *(
        REPOSITORY
        / "workflow/plugins/snakemake-executor-plugin-submitit/snakemake_executor_plugin_submitit"
    ).glob("*.py"),
    REPOSITORY / "kd/training/launch.py",
    REPOSITORY / "kd/resources/requests.py",
    REPOSITORY / "kd/training/parts/memory.py",
]
VALUE = "\0"
"""Mark of a value in the text of a message."""


def messages() -> list[str]:
    """Return the quoted messages, one a line."""
    blocks = re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def texts(path: Path) -> list[str]:
    """Return the strings of a module, with a mark for each value of an f-string."""
    strings = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else VALUE for p in node.values]
            strings.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.append(node.value)
    return strings


def literals() -> list[str]:
    """Return the longer pieces of all strings between two values."""
    pieces = {piece for path in SOURCES for text in texts(path) for piece in text.split(VALUE)}
    return sorted({piece.strip() for piece in pieces if len(piece.split()) > 1}, key=len)[::-1]


@pytest.mark.parametrize("message", messages())
def test_a_quoted_message_is_composed_of_texts_of_the_code(message: str) -> None:
    rest = re.sub(r"<[\w ]+>", VALUE, message)
    for piece in literals():
        rest = rest.replace(piece, VALUE)
    assert not re.search(r"[a-z]{2,} [a-z]{2,}", rest), rest.replace(VALUE, "…")
