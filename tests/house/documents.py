"""Text of the files that users read: documents, configurations, captions, templates, scripts."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.house.sources import Place
from tests.support.paths import REPOSITORY

FOLDERS = {
    "docs": {".md"},
    "benchmarks": {".md", ".txt"},
    "configs": {".yaml", ".csv"},
    "workflow": {".md", ".yaml", ".rst", ".smk", ".sh"},
    "analysis": {".html", ".js", ".css"},
}
"""Suffixes of the files of each folder; the tables in docs/evidence are records of results."""
ROOT = {
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "environment.yml"),
    *("Makefile", "Snakefile", "pyproject.toml", ".ci/run"),
}
"""Files in the root of the project."""
CODE = re.compile(
    r"^ *(```|~~~).*?^ *\1 *$|`[^`\n]+`|(?<=\]\()[^)\n]*(?=\))", re.DOTALL | re.MULTILINE
)
"""Blocks and spans of code, and targets of links, in Markdown."""
TAG_ATTRIBUTES = re.compile(r"aria-labelledby")
"""Names of HTML attributes, which have British spelling."""

TEMPLATE_NAME = re.compile(r"{% *(?:set|macro) (\w+)|{% *for (\w+)(?:, (\w+))?(?:, (\w+))?")
"""Names that a template defines: variables, macros and loop variables."""


@cache
def files() -> list[Path]:
    """Return the files that users read, sorted."""
    nested = [
        path
        for folder, suffixes in FOLDERS.items()
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in suffixes
    ]
    return sorted([*nested, *(REPOSITORY / name for name in ROOT)])


@cache
def lines(path: Path) -> list[Place]:
    """Return the numbered lines of a file, without code in Markdown."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    if path.suffix == ".html":
        text = TAG_ATTRIBUTES.sub("", text)
    return list(enumerate(text.splitlines(), start=1))


def template_names(path: Path) -> Iterator[Place]:
    """Yield the names that an HTML template defines."""
    for line, text in lines(path):
        for match in TEMPLATE_NAME.finditer(text):
            yield from ((line, name) for name in match.groups() if name)
