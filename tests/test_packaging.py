"""The lock, pyproject and environment.yml speak of the same packages."""

import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LOCK = [
    Requirement(line)
    for line in (REPOSITORY / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
WANTED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]


@pytest.mark.parametrize("wanted", WANTED)
def test_the_lock_pins_what_the_project_needs(wanted: str) -> None:
    requirement = Requirement(wanted)
    pinned = [
        each for each in LOCK if canonicalize_name(each.name) == canonicalize_name(requirement.name)
    ]
    assert pinned, f"{requirement.name} is not in the lock"
    for each in pinned:
        (pin,) = each.specifier
        assert requirement.specifier.contains(pin.version)


def test_the_lock_has_exact_versions_and_names_no_host() -> None:
    for requirement in LOCK:
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert requirement.url is None
    assert "://" not in (REPOSITORY / "requirements.lock").read_text()


def test_the_conda_environment_installs_the_lock() -> None:
    dependencies = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    python = next(each for each in dependencies if str(each).startswith("python="))
    version = python.removeprefix("python=")
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)
    (pip,) = (each["pip"] for each in dependencies if isinstance(each, dict))
    assert pip == ["--requirement requirements.lock", "--editable ."]
