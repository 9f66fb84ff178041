"""Sizes of folders, files and functions, and the tree in docs/explanation/architecture.md."""

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


def test_tests_mirror_the_rooms() -> None:
    """Each room of the product has a folder of tests, and each folder of tests has a subject."""
    rooms = {path.parent.name for path in REPOSITORY.glob("kd/*/__init__.py")}
    rooms |= {f"analysis/{path.parent.name}" for path in REPOSITORY.glob("analysis/*/__init__.py")}
    tests = REPOSITORY / "tests"
    tested = {f"{path.parent.relative_to(tests)}/" for path in tests.rglob("test_*.py")}
    untested = {
        room for room in rooms if not any(folder.startswith(f"{room}/") for folder in tested)
    }
    assert untested == set()
    others = {".", "analysis", "benchmarks", "docs", "house", "slurm"}
    assert {folder.split("/")[0] for folder in tested} <= rooms | others


def test_no_two_test_files_have_the_same_name() -> None:
    """Pytest imports test files by their bare names, so it refuses a second one of a name."""
    counts = Counter(
        path.name for path in sources.files(*sources.ALL) if path.name.startswith("test_")
    )
    assert [name for name, count in counts.items() if count > 1] == []


def test_the_documented_tree_names_every_folder_of_the_product() -> None:
    page = (REPOSITORY / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tree: begin -->\n```\n(.*?)```\n<!-- tree: end -->", page, re.DOTALL)
    assert block, "architecture.md has no tree between its markers"
    tree_paths = {*_paths(block[1])}
    folders = {str(path.parent.relative_to(REPOSITORY)) for path in sources.files("kd", "analysis")}
    rooms = {name for name in folders if not name.startswith("analysis/figures/")}
    assert rooms - tree_paths == set()
    assert {path for path in tree_paths if not (REPOSITORY / path).exists()} == set()


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
