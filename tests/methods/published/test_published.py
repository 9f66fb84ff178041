"""Losses of presets named after published code equal that code on the same tensors.

``python -m tests.methods.published.test_published`` prints the table of all of them, and writes
it into ``docs/reference/reductions.md``.
"""

import importlib
import re
from pathlib import Path

import pytest
from torch import Tensor

from docs.build.measurements import insert
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.terms import method_names
from kd.methods import names
from tests.methods.published.golden_data import FOLDER, Port, largest, read, relative_differences
from tests.support.paths import CONFIGS, REPOSITORY

TOLERANCE = 1e-6
FEWEST_CASES = 20
PAGE = REPOSITORY / "docs" / "reference" / "reductions.md"


def ports() -> dict[str, Port]:
    """Return the port of each preset from all modules ``published_*``."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("published_*.py"))
    modules = [importlib.import_module(f"tests.methods.published.{name}") for name in names]
    return {preset: port for module in modules for preset, port in module.PORTS.items()}


def test_every_golden_file_has_a_port_and_every_port_a_file():
    assert ports().keys() == {path.stem for path in FOLDER.glob("*.npz")}


@pytest.mark.parametrize("preset", sorted(ports()))
def test_values_and_gradients_equal_the_published_code(preset: str):
    golden = read(preset)
    assert len(golden.cases) >= FEWEST_CASES
    port = ports()[preset]
    for case in golden.cases:
        value, gradient = relative_differences(case, port)
        assert value < TOLERANCE and gradient < TOLERANCE, case.name


@pytest.mark.parametrize("preset", sorted(ports()))
def test_golden_data_would_show_a_difference(preset: str):
    """A term enlarged by 0.1 % differs in its value and in a gradient."""
    golden, port = read(preset), ports()[preset]

    def enlarged(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: 1.001 * term for name, term in port(inputs).items()}

    pairs = [relative_differences(case, enlarged) for case in golden.cases]
    value, gradient = (largest(column) for column in zip(*pairs, strict=True))
    assert value > TOLERANCE and gradient > TOLERANCE


def test_the_page_lists_the_same_presets():
    """Digits depend on the processor, so they are not compared."""
    listing = PAGE.read_text(encoding="utf-8").split("<!-- golden: begin -->")[1]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (\d+) \|", listing, re.MULTILINE)
    recorded = {preset: read(preset) for preset in ports()}
    assert rows == [
        (preset, golden.source, str(len(golden.cases)))
        for preset, golden in sorted(recorded.items())
    ]


def test_the_page_describes_every_method_and_every_preset_of_a_published_form():
    text = PAGE.read_text(encoding="utf-8").split("<!-- golden: begin -->")[0]
    described = set(re.findall(r"`(\w+)`", text))
    ports_of = {*filter(_names_code, Library(CONFIGS).presets)}
    recorded = ports().keys() & set(method_names(Library(CONFIGS)))
    assert {*recorded, *ports_of, *names()} <= described


def _names_code(preset: str) -> bool:
    return preset.endswith(("_up", "_ld", "_defeat", "_mmrazor", "_norm", "_rewrite", "_voc"))


def table() -> str:
    """Return a Markdown table of presets, sources, cases and largest relative differences."""
    lines = ["| preset | source | cases | value | gradient |", "|---|---|---:|---:|---:|"]
    for preset, port in sorted(ports().items()):
        golden = read(preset)
        pairs = [relative_differences(case, port) for case in golden.cases]
        value, gradient = (largest(column) for column in zip(*pairs, strict=True))
        numbers = f"{len(pairs)} | {value:.0e} | {gradient:.0e}"
        lines.append(f"| `{preset}` | {golden.source} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    write_text(PAGE, insert(PAGE.read_text(encoding="utf-8"), "golden", table(), PAGE))
    print(table())
