"""The lock, pyproject and environment.yml name the same packages."""

import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import REPOSITORY

PLUGIN_FOLDER = "workflow/plugins/snakemake-executor-plugin-submitit"
PROJECT, PLUGIN = (
    tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text())["project"]
    for folder in (".", PLUGIN_FOLDER)
)
LOCK = [
    Requirement(line)
    for line in (REPOSITORY / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *PROJECT["optional-dependencies"]["dev"],
    *PLUGIN["dependencies"],
    *PLUGIN["optional-dependencies"]["test"],
]


@pytest.mark.parametrize("text", sorted({*REQUIREMENTS} - {PLUGIN["name"]}))
def test_the_lock_pins_all_requirements_of_the_project(text: str) -> None:
    requirement = Requirement(text)
    name = canonicalize_name(requirement.name)
    entries = [entry for entry in LOCK if canonicalize_name(entry.name) == name]
    assert entries, f"{requirement.name} is not in the lock"
    for entry in entries:
        (pin,) = entry.specifier
        assert requirement.specifier.contains(pin.version)


def test_the_lock_has_exact_versions_and_names_no_host() -> None:
    for requirement in LOCK:
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert requirement.url is None
    assert "://" not in (REPOSITORY / "requirements.lock").read_text()


def test_the_conda_environment_installs_the_lock() -> None:
    dependencies = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    python = next(entry for entry in dependencies if str(entry).startswith("python="))
    version = python.removeprefix("python=")
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)
    (pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    editable = [f"--editable {PLUGIN_FOLDER}", "--editable ."]
    assert pip == ["--requirement requirements.lock", *editable]
    assert " ".join(editable) in (REPOSITORY / "Makefile").read_text().replace(
        "$(PLUGIN)", PLUGIN_FOLDER
    )
    assert PLUGIN["name"] in PROJECT["dependencies"]
