"""RTMDet and YOLOX of each size, compared with the settings in mmdet's files."""

from pathlib import Path
from typing import Any

import mmdet
import pytest
from mmengine.config import Config

from kd.common.errors import UserError
from kd.config.canonical import canonical_detector
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.parts import Detector, Scale
from kd.config.plan import plan
from kd.models.complexity import complexity
from tests.support.paths import CONFIGS

PUBLISHED = Path(mmdet.__file__).parent / ".mim" / "configs"
LIBRARY = Library(CONFIGS)
SIZES = {
    ("rtmdet", "cspnext-tiny"): "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    ("rtmdet", "cspnext-s"): "rtmdet/rtmdet_s_8xb32-300e_coco.py",
    ("rtmdet", "cspnext-m"): "rtmdet/rtmdet_m_8xb32-300e_coco.py",
    ("rtmdet", "cspnext-l"): "rtmdet/rtmdet_l_8xb32-300e_coco.py",
    ("yolox", "csp-darknet-tiny"): "yolox/yolox_tiny_8xb8-300e_coco.py",
    ("yolox", "csp-darknet-s"): "yolox/yolox_s_8xb8-300e_coco.py",
    ("yolox", "csp-darknet-m"): "yolox/yolox_m_8xb8-300e_coco.py",
    ("yolox", "csp-darknet-l"): "yolox/yolox_l_8xb8-300e_coco.py",
}
DIFFERENCES = {
    "rtmdet": {
        "backbone.norm_cfg.type": "BN",  # RTMDet itself replaces BN if there are several processes
        "neck.norm_cfg.type": "BN",
        "bbox_head.norm_cfg.type": "BN",
        "backbone.out_indices": [2, 3, 4],  # mmdet's default
        "data_preprocessor.pad_size_divisor": 32,
        "data_preprocessor.batch_augments": None,  # mmdet has the same without a name
    },
    "yolox": {
        "data_preprocessor.mean": [0.0, 0.0, 0.0],  # mmdet does not normalize, which is the same
        "data_preprocessor.std": [1.0, 1.0, 1.0],
        "data_preprocessor.bgr_to_rgb": False,  # mmdet's default
        "data_preprocessor.batch_augments": None,  # multi-scale training is an augmentation here
    },
}
"""Settings that differ from mmdet's files, as composed here; None if they are absent here."""
MULTIPLY_ADDS = {  # mmdet's table of RTMDet; YOLOX's table, which counts two for each
    ("rtmdet", "cspnext-tiny", 640): 8.1,
    ("rtmdet", "cspnext-s", 640): 14.8,
    ("rtmdet", "cspnext-m", 640): 39.27,
    ("rtmdet", "cspnext-l", 640): 80.23,
    ("yolox", "csp-darknet-tiny", 416): 6.45 / 2,
    ("yolox", "csp-darknet-s", 640): 26.8 / 2,
    ("yolox", "csp-darknet-m", 640): 73.8 / 2,
    ("yolox", "csp-darknet-l", 640): 155.6 / 2,
}


def composed(detector: str, backbone: str) -> dict[str, Any]:
    scale = Scale(title="as published")
    return detector_model(detector, backbone, 80, "scratch", scale, LIBRARY, "tests")


def flat(settings: Any, path: str = "") -> dict[str, Any]:
    """Return settings by their dotted paths; tuples become lists."""
    if not isinstance(settings, dict):
        return {path: list(settings) if isinstance(settings, tuple) else settings}
    return {
        key: value
        for name, inner in settings.items()
        for key, value in flat(inner, f"{path}.{name}" if path else name).items()
    }


@pytest.mark.parametrize(("detector", "backbone"), SIZES)
def test_a_model_differs_from_mmdets_in_the_listed_settings_alone(
    detector: str, backbone: str
) -> None:
    ours = flat(canonical_detector(composed(detector, backbone)))
    published = Config.fromfile(PUBLISHED / SIZES[detector, backbone]).to_dict()["model"]
    published["backbone"].pop("init_cfg", None)
    theirs = flat(published)
    differing = {
        key: ours.get(key)
        for key in ours.keys() | theirs.keys()
        if key not in ours or key not in theirs or ours[key] != theirs[key]
    }
    assert differing == DIFFERENCES[detector]


@pytest.mark.parametrize(("detector", "backbone", "side"), MULTIPLY_ADDS)
def test_multiply_adds_are_the_published_ones(
    quiet_mmdet: None, detector: str, backbone: str, side: int
) -> None:
    count = complexity(composed(detector, backbone), side, side).multiply_adds / 1e9
    assert count == pytest.approx(MULTIPLY_ADDS[detector, backbone, side], rel=0.01)


def test_the_weights_of_cspnext_are_those_of_mmdets_file() -> None:
    """Mmdet's README names the same files with the first digits of their SHA-256."""
    for size in ("tiny", "s"):
        published = Config.fromfile(PUBLISHED / SIZES["rtmdet", f"cspnext-{size}"]).model
        address = published.backbone.init_cfg.checkpoint.removesuffix(".pth")
        part, _ = LIBRARY.backbone(f"cspnext-{size}", "tests")
        assert part.imagenet is not None
        assert part.imagenet.startswith(f"{address}-") and part.imagenet.endswith(".pth")


@pytest.mark.parametrize("size", ["tiny", "s", "m", "l"])
def test_backbones_of_the_study_start_from_the_weights_that_mmdets_file_names(size: str) -> None:
    published = Config.fromfile(PUBLISHED / SIZES["rtmdet", f"cspnext-{size}"]).model
    runs = [
        run
        for run in plan("rtmdet", "paper", LIBRARY).runs.values()
        if run.student == f"cspnext-{size}"
    ]
    ours = {"init_cfg" in run.config["model"].get("student", run.config["model"])["backbone"]
            for run in runs}  # fmt: skip
    assert ours == {"init_cfg" in published.backbone}


# --- Changes on a backbone -------------------------------------------------------------------


def test_a_narrower_backbone_has_the_neck_of_its_file() -> None:
    assert composed("rtmdet", "cspnext-s-w0.5")["neck"]["out_channels"] == 128
    assert composed("rtmdet", "cspnext-s")["neck"]["out_channels"] == 128
    assert composed("rtmdet", "r50")["neck"]["out_channels"] == 256


def test_a_scale_changes_the_settings_of_every_backbone() -> None:
    scale = Scale(title="small", detectors={"yolox": {"neck": {"out_channels": 8}}})
    model = detector_model("yolox", "csp-darknet-s", 8, "scratch", scale, LIBRARY, "tests")
    assert model["neck"]["out_channels"] == 8
    assert model["neck"]["num_csp_blocks"] == 1


def test_images_of_yolox_tiny_have_416_pixels_and_those_of_other_sizes_640() -> None:
    sizes = {
        name: LIBRARY.detector_on("yolox", f"csp-darknet-{name}", "tests").input_size
        for name in ("tiny", "tiny-w0.5", "s", "m", "l")
    }
    assert sizes == {"tiny": 416, "tiny-w0.5": 416, "s": 640, "m": 640, "l": 640}


def test_a_detector_without_changes_is_itself() -> None:
    part = LIBRARY.detector("retinanet", "tests")
    assert part.on("r50") is part
    assert LIBRARY.detector("rtmdet", "tests").on("r50").model["neck"]["out_channels"] == 256


@pytest.mark.parametrize(
    ("backbones", "message"),
    [
        ({"cspnext-xs": {}}, r"key 'backbones': no 'cspnext-xs' in .*'cspnext-s'"),
        (
            {"cspnext-s": {"model": {"neck": {"out_chanels": 8}}}},
            r"cspnext-s\.model\.neck: no setting 'out_chanels' to change; .*'out_channels'",
        ),
        (
            {"cspnext-s": {"neck": {}}},
            r"unknown key 'backbones.cspnext-s.neck'; valid: augmentation, input_size, model",
        ),
        ({"cspnext-s": {"input_size": 0}}, r"key 'backbones.cspnext-s.input_size': "),
    ],
)
def test_changes_of_settings_that_do_not_exist_are_refused(
    monkeypatch: pytest.MonkeyPatch, backbones: dict[str, Any], message: str
) -> None:
    library = Library(CONFIGS)
    settings = LIBRARY.detector("rtmdet", "tests").model_dump(exclude_unset=True)
    settings["backbones"] = backbones
    file = "configs/detectors/rtmdet.yaml"
    monkeypatch.setattr(library, "_part", lambda *_: Detector.parse(settings, file))
    with pytest.raises(UserError, match=message):
        library.detector("rtmdet", "tests")


def test_a_width_that_splits_a_channel_is_refused() -> None:
    with pytest.raises(UserError, match=r"48 channels would be 16.8; .* a multiple of 1/48"):
        LIBRARY.backbone("cspnext-tiny-w0.35", "tests")


# --- Normalization in several processes --------------------------------------------------------


@pytest.mark.parametrize(("gpu", "processes"), [(True, 2), (True, 1), (False, 2)])
def test_rtmdet_synchronizes_normalization_of_several_processes_on_gpus(
    quiet_mmdet: None, monkeypatch: pytest.MonkeyPatch, model_config: Any, gpu: bool, processes: int
) -> None:
    from torch import nn

    import kd.models.detectors
    from kd.models.build import build_model

    monkeypatch.setattr("mmdet.models.detectors.rtmdet.get_world_size", lambda: processes)
    monkeypatch.setattr(kd.models.detectors, "is_cuda_available", lambda: gpu)
    network = build_model(model_config("rtmdet"))
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    is_synchronized = gpu and processes > 1
    assert layers
    assert all(isinstance(layer, nn.SyncBatchNorm) == is_synchronized for layer in layers)
