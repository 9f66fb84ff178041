"""Data set entries of the project, and the scripts that download them."""

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from kd.data.entry import Dataset
from tests.support import machine
from tests.support.paths import REPOSITORY

ENTRIES = sorted((REPOSITORY / "configs/datasets").glob("*.yaml"))
SCRIPTS = REPOSITORY / "workflow/scripts"


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_every_entry_is_valid(path: Path) -> None:
    entry = Dataset.read(path)
    assert entry.generate or entry.fetch, "an entry without a source of its data"


@pytest.mark.parametrize(("name", "count"), [("coco2017", 80), ("voc0712", 20)])
def test_the_benchmarks_have_all_classes(name: str, count: int) -> None:
    entry = Dataset.read(REPOSITORY / f"configs/datasets/{name}.yaml")
    assert entry.classes is not None and len(entry.classes) == count
    assert entry.fetch is not None
    script = entry.fetch.split()[-1]
    assert os.access(REPOSITORY / script, os.X_OK)


@pytest.mark.parametrize("name", ["download_coco.sh", "download_voc.sh", "archives.sh"])
def test_scripts_parse(name: str) -> None:
    subprocess.run(["bash", "-n", SCRIPTS / name], check=True)


def test_coco_counts_as_present_once_its_images_are_unpacked() -> None:
    lines = (SCRIPTS / "download_coco.sh").read_text().splitlines()
    archives = [line.split('"')[3] for line in lines if line.startswith("unpack ")]
    assert archives[-1] == "$host/annotations/annotations_trainval2017.zip"
    assert len(archives) == 3


def unpack(folder: Path, archive: Path, md5: str) -> "subprocess.CompletedProcess[str]":
    for tool in ("curl", "unzip", "md5sum"):
        if shutil.which(tool) is None:
            machine.skip(f"{tool} is not installed", f"install {tool}")
    program = 'set -euo pipefail; source "$1"; unpack "$2" "file://$3" "$4"'
    command = ["bash", "-c", program, "bash", SCRIPTS / "archives.sh", folder, archive, md5]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images/1.txt", "content " * 1000)
    return path


def test_an_archive_is_resumed_and_unpacked_once(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "set.zip").write_bytes(archive.read_bytes()[:100])
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    first = unpack(folder, archive, md5)
    assert first.returncode == 0 and "set.zip: fetching" in first.stdout
    assert (folder / "images/1.txt").read_text().startswith("content")
    assert not (folder / "set.zip").exists()
    second = unpack(folder, archive, md5)
    assert second.returncode == 0 and second.stdout == "set.zip: already unpacked\n"


def test_a_wrong_checksum_stops(archive: Path, tmp_path: Path) -> None:
    result = unpack(tmp_path / "target", archive, "0" * 32)
    assert result.returncode == 1 and "is not 0000" in result.stderr
    assert not (tmp_path / "target/images").exists()


def test_an_absent_archive_stops(tmp_path: Path) -> None:
    result = unpack(tmp_path / "target", tmp_path / "none.zip", "0" * 32)
    assert result.returncode == 1 and "error: the download of" in result.stderr
