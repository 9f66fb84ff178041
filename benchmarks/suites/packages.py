"""Packages that the suite for GPUs needs beside torch, and their check; standard library alone.

An image with torch and CUDA has torch, torchvision and their requirements (NumPy, Pillow, triton,
jinja2, setuptools). It lacks the packages below, in the versions of ``requirements.lock``.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
HEADLESS = {"opencv-python": "opencv-python-headless"}
"""Packages that need a library of a desktop, with the package of the same modules that does not."""
IN_IMAGE = ("torch", "torchvision", "numpy", "pillow", "setuptools", "jinja2")
"""Packages of an image with torch that are imported, beside those that only torch imports."""
MODULES = {
    "addict": "addict",
    "annotated-types": "annotated_types",
    "contourpy": "contourpy",
    "cycler": "cycler",
    "fonttools": "fontTools",
    "hotcoco": "hotcoco",
    "hypothesis": "hypothesis",
    "iniconfig": "iniconfig",
    "kiwisolver": "kiwisolver",
    "markdown-it-py": "markdown_it",
    "matplotlib": "matplotlib",
    "mdurl": "mdurl",
    "mmcv-lite": "mmcv",
    "mmdet": "mmdet",
    "mmengine": "mmengine",
    "nvidia-ml-py": "pynvml",
    "opencv-python": "cv2",
    "packaging": "packaging",
    "platformdirs": "platformdirs",
    "pluggy": "pluggy",
    "pycocotools": "pycocotools",
    "pydantic": "pydantic",
    "pydantic-core": "pydantic_core",
    "pygments": "pygments",
    "pyparsing": "pyparsing",
    "pytest": "pytest",
    "python-dateutil": "dateutil",
    "pyyaml": "yaml",
    "rich": "rich",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "shapely": "shapely",
    "six": "six",
    "sortedcontainers": "sortedcontainers",
    "termcolor": "termcolor",
    "terminaltables": "terminaltables",
    "tqdm": "tqdm",
    "typing-inspection": "typing_inspection",
    "tzdata": "tzdata",
    "yapf": "yapf",
}
"""Packages that the suite and the tests for GPUs import, with a module of each."""
PYTHON = ((3, 11), (3, 13))
"""First version of Python that the project supports, and the first that it does not."""


def wheels() -> list[str]:
    """Return the requirements of all packages in MODULES, from the lock."""
    return [*_requirements(MODULES)]


def _requirements(packages: dict[str, str]) -> Iterator[str]:
    """Yield a line for pip of each package; some have a line for each version of Python."""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        name, separator, rest = line.partition("==")
        if separator and name in packages:
            yield f"{HEADLESS.get(name, name)}=={rest}"


def problems() -> tuple[list[str], list[str]]:
    """Return a line for each reason why the suite cannot run here, and the packages to install."""
    here = sys.version_info[:2]
    lines = []
    if not PYTHON[0] <= here < PYTHON[1]:
        lines.append(f"Python {here[0]}.{here[1]}: the project needs 3.11 or 3.12")
    every = MODULES | {name: _module(name) for name in IN_IMAGE}
    absent = {name: module for name, module in every.items() if not find_spec(module)}
    if absent:
        lines.append(f"not installed: {', '.join(absent)}")
        return lines, [*_requirements(absent)]  # others may fail because they import these
    for name, module in sorted(every.items()):
        if problem := _problem(module):
            lines.append(f"{name}: {problem}")
            absent[name] = module
    if not absent and (problem := _problem("kd.runtime")):
        lines.append(f"kd: {problem}")
    return lines, [*_requirements(absent)]


def differences() -> list[str]:
    """Return a line for each package whose version differs from the lock's."""
    locked: dict[str, set[str]] = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition("==")
        locked.setdefault(name, set()).add(rest.partition(" ;")[0].strip())
    lines = []
    for name in sorted({*MODULES, *IN_IMAGE}):
        installed = _version(name) or _version(HEADLESS.get(name, name))
        if installed and installed.partition("+")[0] not in locked[name]:
            lines.append(f"{name} {installed} (lock: {', '.join(sorted(locked[name]))})")
    return lines


def _module(name: str) -> str:
    return {"pillow": "PIL"}.get(name, name)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _problem(module: str) -> str:
    """Return the reason why a module cannot be imported; empty if it can."""
    try:
        import_module(module)
    except Exception as error:  # a package of another machine may raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return f"cannot be imported: {reason[0]}"
    return ""
