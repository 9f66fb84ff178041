"""The messages in docs/how-to/troubleshooting.md are those that the project prints."""

import ast
import re

import pytest

from tests.house import sources
from tests.support.paths import REPOSITORY

PAGE = (REPOSITORY / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
OURS = re.sub(r"^## Snakemake\n.*?(?=^## )", "", PAGE, flags=re.MULTILINE | re.DOTALL)
"""The page without the section of Snakemake's messages."""
FIRST_CELLS = re.findall(r"^\| (`[^|]+) \|", OURS, re.MULTILINE)
OF_OTHERS = ("(make)", "(torch)", "(Slurm)", "(OpenCV)")
"""Programs whose messages are not in this repository."""
PRINTED_BY_PYTHON = ("mmcv._ext", "is nan")

MESSAGES = [
    message
    for cell in FIRST_CELLS
    if not any(program in cell for program in OF_OTHERS)
    for message in re.findall(r"`([^`]+)`", cell.split(" (")[0])
    if not any(words in message for words in PRINTED_BY_PYTHON) and message != "inf"
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return all texts of the source, with a space in place of each value that is filled in."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8")) for path in sources.files("kd", "analysis")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    formatted = [
        "".join(str(getattr(part, "value", " ")) if isinstance(part, ast.Constant) else " "
                for part in node.values)
        for node in nodes if isinstance(node, ast.JoinedStr)
    ]  # fmt: skip
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return [*formatted, *(value for value in constants if isinstance(value, str))]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_in_the_source(message: str, texts: list[str]) -> None:
    pieces = [piece.strip(" ;:'") for piece in re.split(r"\.\.\.|;", message)]
    for piece in filter(None, pieces):
        assert any(piece in text for text in texts), piece
