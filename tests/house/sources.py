"""Names, docstrings, comments and strings of the project's Python files."""

import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.paths import REPOSITORY

PLUGIN = "workflow/plugins/snakemake-executor-plugin-submitit"
PRODUCT = ("kd", "analysis", "docs/build", f"{PLUGIN}/snakemake_executor_plugin_submitit")
ALL = (*PRODUCT, "benchmarks", "tests", f"{PLUGIN}/tests")
Place = tuple[int, str]
"""A line number and the text in it."""


@cache
def files(*folders: str) -> list[Path]:
    """Return the Python files under ``folders``, sorted.

    Files are listed without git, which refuses a checkout that belongs to another user.
    """
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def names(path: Path) -> Iterator[Place]:
    """Yield the names that a file defines: variables, arguments, classes, functions but tests."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) if not name.startswith("test_"):
                yield node.lineno, name


def docstrings(path: Path) -> Iterator[Place]:
    """Yield the docstrings of a file's module, classes, functions and attributes."""
    for node in ast.walk(tree(path)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:  # a lambda's body is no list
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                value = statement.value.value
                if isinstance(value, str):
                    yield statement.lineno, value


def texts(path: Path) -> Iterator[Place]:
    """Yield the comments and string literals of a file, docstrings among them."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def classes(path: Path) -> Iterator[Place]:
    """Yield the names of a file's public classes."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.lineno, node.name


def functions(path: Path) -> Iterator[tuple[int, str, int]]:
    """Yield line, name and number of lines of each function of a file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name, (node.end_lineno or node.lineno) - node.lineno + 1
