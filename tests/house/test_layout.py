"""Sizes of folders, files and functions, and the tree that the README shows."""

import re
from collections import Counter

from tests.house import sources
from tests.support.paths import REPOSITORY

MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES = 16, 400, 60


def test_no_folder_has_more_than_sixteen_modules() -> None:
    counts = Counter(path.parent.relative_to(REPOSITORY) for path in sources.files(*sources.ALL)
                     if path.name != "__init__.py")  # fmt: skip
    assert {str(f): n for f, n in counts.items() if n > MOST_MODULES} == {}


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources.files(*sources.ALL)
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = [
        f"{path.relative_to(REPOSITORY)}:{line} {name} {length}"
        for path in sources.files(*sources.ALL)
        for line, name, length in sources.functions(path)
        if length > MOST_FUNCTION_LINES
    ]
    assert long == []


def test_the_tree_in_the_readme_names_every_folder_of_the_product() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tree: begin -->\n```\n(.*?)```\n<!-- tree: end -->", readme, re.DOTALL)
    assert block, "README.md has no tree between its markers"
    shown = {path.rstrip("/") for path in _paths(block[1])}
    present = {str(path.parent.relative_to(REPOSITORY)) for path in sources.files("kd", "analysis")}
    per_figure = {name for name in present if name.startswith("analysis/figures/")}
    assert shown >= present - per_figure, present - per_figure - shown
    assert all((REPOSITORY / path).exists() for path in shown), shown


def _paths(tree: str) -> list[str]:
    """Return the paths of a tree in which two spaces of indentation are a level."""
    paths: list[str] = []
    parents: list[str] = []
    for line in tree.splitlines():
        for name in line.split("  #")[0].split():
            depth = (len(line) - len(line.lstrip())) // 2
            parents = [*parents[:depth], name.rstrip("/")]
            paths.append("/".join(parents))
    return paths
