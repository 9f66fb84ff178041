"""Teachers with published weights: Mask R-CNNs without masks, DINO, and their stand-ins."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Row, plan
from tests.support.paths import CONFIGS

MASK = {"source": "mask_rcnn.pth", "sha256": "9d6b7cfa", "without": ["roi_head.mask_head."]}
DINO = {"source": "dino.pth", "sha256": "55b2bba2"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with the files of ``configs``."""
    (tmp_path / "configs").mkdir()
    for folder in CONFIGS.iterdir():
        if folder.name != "studies":
            (tmp_path / "configs" / folder.name).symlink_to(folder.resolve())
    (tmp_path / "configs" / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(
    scale: str, pair: dict[str, Any], detector: str = "faster_rcnn", methods: tuple[str, ...] = ()
) -> list[Row]:
    table = {
        "title": "t", "dataset": "coco2017", "schedule": "1x", "detectors": [detector],
        "pairs": [pair], "methods": list(methods),
    }  # fmt: skip
    study = {"title": "s", "source": "none", "tables": {"only": table}}
    Path("configs/studies/s.yaml").write_text(yaml.safe_dump(study))
    return plan("s", scale, Library(Path("configs"))).rows


def test_a_mask_rcnn_is_imported_without_its_mask_branch(project: Path) -> None:
    pair = {"teacher": "swin-t", "student": "r50", "checkpoint": MASK}
    teacher = planned("paper", pair)[0].runs[0]
    assert teacher.config["published_checkpoint"] == MASK
    assert teacher.config["model"]["type"] == "FasterRCNN"
    assert teacher.config["model"]["backbone"]["unread_maps"] == 0


def test_an_import_needs_no_imagenet_weights(project: Path) -> None:
    pair = {"teacher": "x101-32x4d-dconv", "student": "r50"}
    weights = {"source": "cascade_mask_rcnn.pth", "sha256": "e75f90c8"}
    pair |= {"teacher_detector": "cascade_rcnn"}
    teacher = planned("paper", {**pair, "checkpoint": weights}, methods=("fitnets",))[0].runs[0]
    assert "init_cfg" not in teacher.config["model"]["backbone"]
    with pytest.raises(UserError, match="'x101-32x4d-dconv' has no ImageNet weights"):
        planned("paper", pair)


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_narrow_networks_are_trained_in_place_of_published_weights(
    project: Path, scale: str
) -> None:
    pair = {"teacher": "swin-t", "student": "r50"}
    teacher = planned(scale, {**pair, "checkpoint": MASK})[0].runs[0]
    assert teacher == planned(scale, pair)[0].runs[0]
    assert "train_dataloader" in teacher.config


def test_dino_teaches_with_published_weights_alone(project: Path) -> None:
    pair = {"teacher": "r50", "student": "r18", "teacher_detector": "dino"}
    teacher = planned("paper", {**pair, "checkpoint": DINO}, "retinanet")[0].runs[0]
    assert teacher.config["model"]["type"] == "DINO"
    assert planned("smoke", {**pair, "checkpoint": DINO}, "retinanet")[0].runs[0].detector == (
        "retinanet"
    )
    with pytest.raises(UserError, match=r"'dino' is not trained here.* add 'checkpoint'"):
        planned("paper", pair, "retinanet")


def test_dino_is_no_student(project: Path) -> None:
    with pytest.raises(UserError, match="key 'detectors': 'dino' only teaches"):
        planned("paper", {"student": "r50"}, "dino")
    assert "dino" not in Library(Path("configs")).names("detectors")


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("fgfi", "compares neck maps, but 'retinanet' has strides 8 and .* and 'dino' 8 and"),
        ("rm", "reads .*'dino' does not offer"),
        ("dicod", ""),
    ],
)
def test_methods_that_read_other_outputs_of_dino_are_refused(
    project: Path, method: str, reason: str
) -> None:
    pair = {"teacher": "r50", "student": "r18", "teacher_detector": "dino", "checkpoint": DINO}
    if not reason:
        pair["classifier"] = "r50"
        assert planned("paper", pair, "retinanet", (method,))
        return
    with pytest.raises(UserError, match=f"method '{method}' {reason}"):
        planned("paper", pair, "retinanet", (method,))


@pytest.mark.parametrize("digest", ["9d6b7cf", "9d6b7cfg", "0" * 65])
def test_a_digest_has_8_to_64_hexadecimal_digits(project: Path, digest: str) -> None:
    pair = {"teacher": "r50", "student": "r18", "checkpoint": {"source": "a", "sha256": digest}}
    with pytest.raises(UserError, match="64 hexadecimal digits, or at least the first 8"):
        planned("paper", pair)


def test_a_file_is_in_the_folder_that_its_keys_state(project: Path) -> None:
    detectors = Path("configs/detectors")
    copies = {path.name: path.read_text() for path in detectors.iterdir()}
    detectors.unlink()
    detectors.mkdir()
    for name, text in copies.items():
        (detectors / name).write_text(text)
    (detectors / "fcos.yaml").write_text(copies["fcos.yaml"] + "trained_as: retinanet\n")
    with pytest.raises(UserError, match=r"detectors/fcos\.yaml: only files of .*teachers have"):
        planned("paper", {"student": "r50"}, "fcos")
