"""Container recipes agree with the lock, with pyproject.toml, with each other and their page."""

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from kd.workflow.project_files import FILES
from tests.support.paths import REPOSITORY

DOCKER, APPTAINER, IGNORE, LOCK, INSTALL, PAGE = (
    (REPOSITORY / name).read_text(encoding="utf-8")
    for name in (
        *("Dockerfile", "container.def", ".dockerignore", "requirements.lock"),
        *("docs/how-to/install.md", "docs/how-to/container.md"),
    )
)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
LEAST_DRIVER = {"13": "580", "12": "525"}
"""Least driver of a major release of CUDA, as NVIDIA's page on compatibility lists them."""
DRIVER = r"driver of release (\d+) or newer"


def pinned(package: str) -> str:
    (version,) = re.findall(rf"^{package}==([\d.]+)", LOCK, re.MULTILINE)
    return str(version)


def commands(recipe: str) -> list[str]:
    """Return the commands of a recipe that install something, on one line each."""
    lines = re.sub(r"\s*\\\n\s*(&& )?", " ", recipe).replace("RUN ", "").splitlines()
    text = "\n".join(line.strip() for line in lines)
    pattern = r"apt-get install [\w\d. -]+?(?= rm|\n)|python -m pip install .+"
    return [command.strip() for command in re.findall(pattern, text)]


def test_both_recipes_install_the_same_on_the_python_of_the_project() -> None:
    (docker,) = re.findall(r"^FROM (\S+)$", DOCKER, re.MULTILINE)
    (apptainer,) = re.findall(r"^From: (\S+)$", APPTAINER, re.MULTILINE)
    assert docker == apptainer
    version = docker.removeprefix("python:").partition("-")[0]
    requirement = Requirement(f"python{PROJECT['project']['requires-python']}")
    assert requirement.specifier.contains(version)
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    assert f"python={version}" in environment["dependencies"]
    assert f"PYTHON ?= python{version}" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert f"Python {version}" in PAGE
    apt, lock, project = commands(DOCKER)
    assert commands(APPTAINER) == [apt, lock, project]
    assert "--no-deps --requirement requirements.lock" in lock
    assert project.endswith("./workflow/plugins/snakemake-executor-plugin-submitit .")
    assert {"libgl1", "libglib2.0-0"} <= {*apt.split()}
    assert "apt-get install libgl1 libglib2.0-0" in INSTALL


def test_the_driver_is_the_least_one_of_the_locked_cuda() -> None:
    """Parts of the toolkit and torch's own requirement name the same release of CUDA."""
    parts = ("nvidia-cuda-runtime", "nvidia-cuda-nvrtc", "cuda-toolkit")
    (cuda,) = {".".join(pinned(part).split(".")[:2]) for part in parts}
    for text in (DOCKER, PAGE, INSTALL):
        assert f"CUDA {cuda}" in text
        assert {*re.findall(DRIVER, text)} == {LEAST_DRIVER[cuda.partition(".")[0]]}
    torch = ".".join(pinned("torch").split(".")[:2])
    assert f"PyTorch {torch}" in PAGE and f"PyTorch | {torch}" in INSTALL


def test_both_recipes_copy_what_the_wheels_need_and_nothing_else() -> None:
    included = re.findall(r"^!(\S+)$", IGNORE, re.MULTILINE)
    section = APPTAINER.partition("%files\n")[2].partition("\n\n")[0]
    copied = dict(line.split() for line in section.splitlines())
    assert sorted(copied) == sorted(included)
    assert all(target == f"/opt/kd-detection/{name}" for name, target in copied.items())
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *wheel["shared-data"], *FILES}
    assert {name.partition("/")[0] for name in needed} <= {*included}
    assert {PROJECT["project"]["readme"], "pyproject.toml", "requirements.lock"} <= {*included}
    assert all((REPOSITORY / name).exists() for name in included)


def test_the_image_runs_as_a_user_in_a_project() -> None:
    lines = DOCKER.splitlines()
    assert lines[-3:] == ["USER 1000", "WORKDIR /project", 'CMD ["kd", "--help"]']
    assert "useradd --create-home --uid 1000 kd" in DOCKER and "kd init /project" in DOCKER
    assert "ENTRYPOINT" not in DOCKER  # the command of `docker run` replaces kd --help
    assert "KD_COMMIT=$COMMIT" in DOCKER and "KD_COMMIT={{ commit }}" in APPTAINER
    assert "--build-arg COMMIT=" in PAGE and "--build-arg commit=" in PAGE


@pytest.mark.skipif(
    not shutil.which("hadolint"),
    reason="hadolint is not installed; `make release-check` installs and runs it",
)
def test_the_recipe_has_no_finding_of_hadolint() -> None:
    command = ["hadolint", str(REPOSITORY / "Dockerfile")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
