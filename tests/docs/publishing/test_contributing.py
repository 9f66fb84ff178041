"""Commands and paths of CONTRIBUTING.md exist, and its table of generators is complete."""

import re
from importlib.util import find_spec

from tests.support.paths import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
GENERATORS = {*re.findall(r"`python -m (docs\.build\.[\w.]+)`", TEXT)}
PATHS = {*re.findall(r"`((?:\w[\w.-]*/)*[\w.-]+\.(?:py|md|yaml|csv|toml|cff))`", TEXT)}
FOLDERS = {*re.findall(r"`((?:docs|configs|kd|analysis|tests)/[\w/-]+)`", TEXT)}


def test_every_make_target_exists() -> None:
    targets = {*re.findall(r"\bmake ([a-z][a-z-]*)", TEXT)}
    assert {"setup", "check", "test", "test-slurm", "release-check"} <= targets
    assert targets - {*re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)} == set()


def test_every_generator_exists_and_is_in_the_table() -> None:
    assert {name for name in GENERATORS if find_spec(name) is None} == set()
    runnable = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__main__")
        for path in (REPOSITORY / "docs/build").rglob("*.py")
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    }
    assert runnable == GENERATORS


def test_every_path_exists() -> None:
    assert len(PATHS) > 10 and len(FOLDERS) > 5
    missing = {name for name in PATHS | FOLDERS if not (REPOSITORY / name).exists()}
    assert missing == set()
