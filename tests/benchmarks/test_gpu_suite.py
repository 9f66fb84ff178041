"""The suite for GPUs runs end to end on a CPU, with the packages that it lists and no others."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.suites import packages, parts
from tests.support.paths import CONFIGS, REPOSITORY

SUITE = REPOSITORY / "benchmarks/suite.py"
BLOCKER = """
import sys

class Filter:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *arguments):
        if name.partition(".")[0] in {blocked!r}:
            return None
        return self.finder.find_spec(name, *arguments)

sys.meta_path[:] = [Filter(finder) for finder in sys.meta_path]
"""


def requirements(*names: str) -> set[str]:
    """Return packages and all that they require on this machine."""
    required: set[str] = set()
    names_left = [*map(canonicalize_name, names)]
    while names_left:
        name = names_left.pop()
        if name in required:
            continue
        required.add(name)
        for requirement in map(Requirement, requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names_left.append(canonicalize_name(requirement.name))
    return required


def blocked(allowed: set[str]) -> set[str]:
    """Return the modules of all installed packages except the allowed ones.

    Those in setuptools' own folder of packages come with it.
    """
    (setuptools,) = find_spec("setuptools").submodule_search_locations
    inside = {path.stem for path in Path(setuptools, "_vendor").glob("*")}
    return {
        module
        for module, owners in packages_distributions().items()
        if not {*map(canonicalize_name, owners)} & (allowed | {"kd-detection"})
        and module not in inside
    }


def block(folder: Path, modules: set[str]) -> dict[str, str]:
    """Return an environment in which Python cannot import some modules."""
    folder.mkdir()
    text = BLOCKER.format(blocked=modules)
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the suite with the listed packages alone; return its folder and its output."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "configs").symlink_to(CONFIGS)
    image = requirements("torch", "torchvision")
    environment = block(folder / "site", blocked(image | packages.MODULES.keys()))
    done = subprocess.run(
        [sys.executable, str(SUITE), "gpu", "--device", "cpu", "--tiny"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    logs = [path.read_text(encoding="utf-8") for path in folder.rglob("*.log")]
    assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs])
    return folder / "results/benchmarks/tiny", done.stdout


def test_every_part_writes_its_result(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    assert {path.stem for path in folder.glob("*.json")} == {
        "suite-gpu",
        *(part.name for part in parts.GPU),
    }


def test_the_table_has_a_line_for_each_figure(finished: tuple[Path, str]) -> None:
    folder, output = finished
    figures = [
        f"{part.name}: {line['what']}"
        for part in parts.GPU
        for line in json.loads((folder / f"{part.name}.json").read_text())["lines"]
        if not line["what"].startswith("- ")
    ]
    assert len(figures) >= len(parts.GPU)
    content = json.loads((folder / "suite-gpu.json").read_text(encoding="utf-8"))
    assert [line["what"] for line in content["lines"]] == figures
    assert content["notes"] == []
    assert re.findall(r"^\| ([a-z].*?) \|", output, re.MULTILINE) == figures


def test_a_result_names_what_was_not_measured(finished: tuple[Path, str]) -> None:
    content = json.loads((finished[0] / "precision.json").read_text(encoding="utf-8"))
    assert content["notes"] == [
        "Energy not measured: NVML has no energy counter here (no GPU, no driver, or MIG)."
    ]


def test_the_listed_packages_are_those_that_the_suite_requires() -> None:
    image = requirements("torch", "torchvision")
    used = requirements("hotcoco", "mmdet", "mmcv-lite", "mmengine", "nvidia-ml-py", "pydantic")
    used |= requirements("pyyaml", "safetensors", "tqdm", "pytest", "hypothesis")
    assert packages.MODULES.keys() == used - image
    assert {*map(canonicalize_name, packages.IN_IMAGE)} <= image


def test_each_listed_package_is_locked_and_has_its_module() -> None:
    names = {line.partition("==")[0] for line in packages.wheels()}
    assert names == {packages.HEADLESS.get(name, name) for name in packages.MODULES}
    owners = packages_distributions()
    for name, module in packages.MODULES.items():
        assert name in map(canonicalize_name, owners[module])


def test_a_machine_without_packages_prints_the_command_that_installs_them(tmp_path: Path) -> None:
    environment = block(tmp_path / "site", {"yaml", "cv2", "tqdm", "mmdet"})
    done = subprocess.run(
        [sys.executable, str(SUITE), "gpu", "--check"],
        env=environment,
        capture_output=True,
        text=True,
    )
    problem, command = done.stderr.splitlines()
    assert done.returncode == 1
    assert problem == "error: not installed: mmdet, opencv-python, pyyaml, tqdm"
    assert command.startswith("error: install: python -m pip install --no-deps ")
    assert {"mmdet==3.3.0", "opencv-python-headless=="} <= {
        word if "headless" not in word else word.rstrip("0123456789.") for word in command.split()
    }


def test_the_printed_packages_need_no_package(tmp_path: Path) -> None:
    environment = block(tmp_path / "site", blocked(set()))
    command = [sys.executable, str(SUITE), "gpu", "--wheels"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == packages.wheels()
    assert "mmdet==3.3.0" in packages.wheels()


def test_the_check_of_this_machine_names_what_will_be_skipped() -> None:
    command = [sys.executable, str(SUITE), "gpu", "--check"]
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": "", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("all packages can be imported; torch 2.")
    assert "GPU: no: torch finds none" in lines
    reason = "no C compiler (gcc or clang), which torch.compile needs"
    assert f"compile will be skipped: {reason}" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cpu", "--tiny"], "--device and --tiny are options of suite gpu"),
        (["gpu", "--device", "cpu"], "--device cpu needs --tiny"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, str(SUITE), *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr
