"""Fingerprints change with the data and are cached while it stays the same."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kd.common.errors import UserError
from kd.data import fingerprint
from kd.data.builtin.shapes import generate
from kd.data.check import check
from kd.data.entry import Dataset, Shapes
from kd.data.fingerprint import cache_file, content_of, fingerprints, last_fingerprints
from tests.data.conftest import save_image, voc_page


@pytest.fixture(autouse=True)
def working_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work in a folder apart from the data, so that the cache is not among it."""
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


def correct_a_box(root: Path) -> None:
    (root / "A/Annotations/a1.xml").write_text(voc_page(("cat", (1, 1, 39, 29), 0)))


def replace_an_image(root: Path) -> None:
    save_image(root / "A/JPEGImages/a2.jpg", seed=9)


def move_an_image(root: Path) -> None:
    (root / "A/ImageSets/Main/trainval.txt").write_text("a1\n")
    (root / "A/ImageSets/Main/test.txt").write_text("a3\na2\n")


def correct_a_test_box(root: Path) -> None:
    (root / "A/Annotations/a3.xml").write_text(voc_page(("dog", (2, 2, 39, 29), 0)))


VOC_EDITS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a corrected box": (correct_a_box, {"train"}),
    "another image of the same name": (replace_an_image, {"train"}),
    "an image moved to the other list": (move_an_image, {"train", "test"}),
    "a corrected test box": (correct_a_test_box, {"test"}),
}


@pytest.mark.parametrize("edit", VOC_EDITS)
def test_an_edit_of_voc_files_changes_the_fingerprints_of_its_splits(
    voc: Dataset, edit: str
) -> None:
    change, splits = VOC_EDITS[edit]
    before, content = fingerprints("voc", voc), content_of("voc", voc)
    change(Path(voc.root))
    after = fingerprints("voc", voc)
    assert {split for split in after if after[split] != before[split]} == splits
    assert content_of("voc", voc) != content


def test_files_touched_or_written_again_are_the_same_data(coco: Dataset) -> None:
    content = content_of("coco", coco)
    path = Path(coco.root) / "annotations/train.json"
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))
    assert content_of("coco", coco) == content
    moved = shutil.copytree(coco.root, Path.cwd() / "moved")
    assert content_of("coco", coco.model_copy(update={"root": str(moved)})) == content


def test_an_unchanged_data_set_is_listed_and_not_read(
    coco: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fingerprints("coco", coco)
    monkeypatch.setattr(fingerprint, "read_split", None)
    assert fingerprints("coco", coco) == first == last_fingerprints("coco")


def test_a_damaged_cache_is_computed_again(coco: Dataset) -> None:
    first = fingerprints("coco", coco)
    cache_file("coco").write_text('{"stamp": ')
    assert last_fingerprints("coco") == {}
    assert fingerprints("coco", coco) == first


def test_a_finished_study_stays_finished_without_its_data(coco: Dataset) -> None:
    content = content_of("coco", coco)
    shutil.rmtree(coco.root)
    assert content_of("coco", coco) == content


def test_a_data_set_without_a_file_has_another_content(coco: Dataset) -> None:
    content = content_of("coco", coco)
    (Path(coco.root) / "annotations/train.json").unlink()
    assert content_of("coco", coco) != content


def test_a_malformed_data_set_has_another_content(coco: Dataset) -> None:
    content = content_of("coco", coco)
    (Path(coco.root) / "annotations/train.json").write_text("{")
    assert content_of("coco", coco) not in ("", content)
    with pytest.raises(UserError, match=r"train\.json"):
        fingerprints("coco", coco)


def test_the_content_of_a_built_in_data_set_is_known_before_it_is_generated(tmp_path: Path) -> None:
    settings = Shapes(train=2, test=2, size=32)
    splits = {
        name: {"annotations": f"annotations/{name}.json", "images": name}
        for name in ("train", "test")
    }
    root = tmp_path / "shapes"
    entry = {"format": "coco", "root": str(root), "image_size": [32, 32], **splits}
    dataset = Dataset.parse(entry | {"generate": settings.model_dump()}, "shapes")
    before = content_of("shapes", dataset)
    generate(settings, root)
    assert content_of("shapes", dataset) == before
    path = root / "annotations/test.json"
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    assert content_of("shapes", dataset) != before


def test_the_check_and_the_cache_agree(coco: Dataset) -> None:
    """Corrected labels change the check's fingerprint and the cached one."""
    first = check("coco", coco).fingerprint
    path = Path(coco.root) / "annotations/test.json"
    before = fingerprints("coco", coco)
    path.write_text(path.read_text().replace("20, 5.5, 10, 5", "20, 5.5, 9, 5"))
    assert check("coco", coco).fingerprint != first
    assert fingerprints("coco", coco)["test"] != before["test"]
