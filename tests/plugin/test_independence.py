"""The plugin stands alone: it could be published as it is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake_executor_plugin_submitit as plugin
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

FOLDER = Path(plugin.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))
NEEDED = {
    "cloudpickle",
    "psutil",
    "snakemake_executor_plugin_submitit",
    "snakemake_interface_common",
    "snakemake_interface_executor_plugins",
    "submitit",
}


def imported(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_it_imports_nothing_of_the_project(source: Path) -> None:
    assert imported(source) <= NEEDED | sys.stdlib_module_names


def test_every_snakemake_that_starts_imports_little() -> None:
    program = "import sys, snakemake_executor_plugin_submitit; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    modules = set(done.stdout.split())
    heavy = {"submitit", "torch", "pandas", "numpy", "yaml", "kd", "snakemake", "cloudpickle"}
    assert "snakemake_executor_plugin_submitit" in modules
    assert not heavy & modules


def test_snakemake_finds_it() -> None:
    found = ExecutorPluginRegistry().get_plugin("submitit")
    assert found.common_settings.non_local_exec
    assert found.settings_cls is plugin.ExecutorSettings
