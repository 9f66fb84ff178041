"""The plugin needs few packages, and its distributions are complete."""

import ast
import pkgutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
import snakemake_executor_plugin_submitit as plugin
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

DISTRIBUTION = Path(__file__).parents[1]
FOLDER = Path(plugin.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))
NEEDED = {
    "psutil",
    "snakemake_executor_plugin_submitit",
    "snakemake_interface_common",
    "snakemake_interface_executor_plugins",
    "submitit",
    "yaml",
}


def imported(source: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            packages |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            packages.add(str(node.module).partition(".")[0])
    return packages


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_it_imports_its_requirements_alone(source: Path) -> None:
    assert imported(source) <= NEEDED | sys.stdlib_module_names


def test_importing_the_plugin_imports_no_heavy_package() -> None:
    program = "import sys, snakemake_executor_plugin_submitit; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    modules = set(done.stdout.split())
    heavy = {"submitit", "torch", "pandas", "numpy", "yaml", "kd", "snakemake", "cloudpickle"}
    assert "snakemake_executor_plugin_submitit" in modules
    assert not heavy & modules


@pytest.fixture
def built(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that builds a source distribution, a wheel or an editable wheel."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")

    def build(kind: str) -> Path:
        function = f"build_{kind}"
        program = f"from hatchling.build import {function}; print({function}({str(tmp_path)!r}))"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=DISTRIBUTION, capture_output=True, text=True
        )
        return tmp_path / done.stdout.split()[-1]

    return build


def discovered(folder: str) -> set[str]:
    """Return the packages that Snakemake finds in a folder of ``sys.path``."""
    return {module.name for module in pkgutil.iter_modules([folder]) if module.ispkg}


def test_the_wheel_has_the_plugin_alone(built: Callable[[str], Path]) -> None:
    wheel = built("wheel")
    assert discovered(str(wheel)) == {plugin.__name__}
    names = ZipFile(wheel).namelist()
    assert {f"{plugin.__name__}/{source.name}" for source in SOURCES} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_source_distribution_has_its_tests_and_pages(built: Callable[[str], Path]) -> None:
    with tarfile.open(built("sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    pages = {"README.md", "LICENSE", "CHANGELOG.md", "docs/intro.md", "docs/further.md"}
    tests = {str(path.relative_to(DISTRIBUTION)) for path in Path(__file__).parent.rglob("*.py")}
    assert pages | tests <= names


def test_it_is_discovered_in_an_editable_installation(built: Callable[[str], Path]) -> None:
    wheel = ZipFile(built("editable"))
    (paths,) = (wheel.read(name) for name in wheel.namelist() if name.endswith(".pth"))
    assert any(plugin.__name__ in discovered(path) for path in paths.decode().splitlines())


def test_snakemake_finds_it() -> None:
    registered = ExecutorPluginRegistry().get_plugin("submitit")
    assert registered.common_settings.non_local_exec
    assert registered.settings_cls is plugin.ExecutorSettings
