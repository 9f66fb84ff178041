"""CITATION.cff, the page on citing, and the version, which pyproject.toml alone decides."""

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

from analysis.report.methods_text import SOFTWARE
from kd.cli.main import main
from tests.support.paths import REPOSITORY

PLUGIN = "workflow/plugins/snakemake-executor-plugin-submitit"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION: str = PROJECT["version"]
CITATION = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
COPIES = {"pyproject.toml", "CITATION.cff", "CHANGELOG.md"}
"""Files with the version of the project: its source, and two copies that tests compare."""
OTHERS = {"requirements.lock", f"{PLUGIN}/pyproject.toml", f"{PLUGIN}/CHANGELOG.md"}
"""Files with versions of other packages, which may be the same number."""


def title_of(entry: str) -> str:
    """Return the title of a BibTeX entry."""
    (title,) = re.findall(r"title\s*= \{(.+?)\},", entry)
    return title


def test_the_citation_has_the_version_license_and_title_of_the_project() -> None:
    assert CITATION["version"] == VERSION
    assert CITATION["license"] == PROJECT["license"]
    page = (REPOSITORY / "docs/how-to/cite.md").read_text(encoding="utf-8")
    assert CITATION["title"] == title_of(SOFTWARE) == title_of(page)
    names = [author["name"] for author in CITATION["authors"]]
    assert (
        names
        == re.findall(r"author\s*= \{\{(.+?)\}\}", SOFTWARE)
        == ["The kd-detection contributors"]
    )


def test_a_released_version_has_its_date() -> None:
    """The newest heading of the changelog names the version, and its date if it is released."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (\S+) \((.+)\)$", changelog, re.MULTILINE)
    assert heading and heading[1] == VERSION
    released = None if heading[2] == "unreleased" else heading[2]
    date = CITATION.get("date-released")
    assert (date and date.isoformat()) == released


@pytest.mark.skipif(
    not shutil.which("cffconvert"),
    reason="cffconvert is not installed; `make release-check` installs and runs it",
)
def test_the_citation_follows_the_schema_of_its_format() -> None:
    command = ["cffconvert", "--validate", "--infile", str(REPOSITORY / "CITATION.cff")]
    assert CITATION["cff-version"] == "1.2.0"
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_citation_has_the_keys_that_its_format_requires() -> None:
    assert {"cff-version", "message", "title", "authors"} <= {*CITATION}
    assert CITATION["type"] in ("software", "dataset")


def test_the_command_prints_the_installed_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["--version"])
    assert not error.value.code
    assert capsys.readouterr().out == f"kd {VERSION}\n"


def test_no_other_file_spells_out_the_version() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    number = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?!\.?\d)")
    # Records in tests name any version.
    names = [name for name in tracked if not re.search(r"(^|/)tests/", name)]
    paths = [REPOSITORY / name for name in names if name not in COPIES | OTHERS]
    texts = {path: path.read_bytes() for path in paths if path.is_file()}
    spelled_out = [
        str(path.relative_to(REPOSITORY))
        for path, text in texts.items()
        if b"\0" not in text and number.search(text.decode("utf-8", errors="replace"))
    ]
    assert spelled_out == []
    modules = [text.decode() for path, text in texts.items() if path.suffix == ".py"]
    assert not [text for text in modules if re.search(r"^__version__\s*=", text, re.MULTILINE)]
