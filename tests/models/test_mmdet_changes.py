"""Changes to mmdet, mmengine and mmcv: the page that lists them, and the source they rely on."""

import hashlib
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kd
import kd.models.mmdet_setup
from kd.config.canonical import CLASSES
from tests.support.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "mmdet-changes.md"
PINS = Path(__file__).with_name("mmdet_sources.json")
FRAMEWORKS = ("mmdet", "mmengine", "mmcv")

HEADS = "mmdet.models.dense_heads"
TRANSFORMS = "mmdet.datasets.transforms.transforms"
RELIED_ON = {
    "kd.observers.recording.anchor_assignment": [
        f"{HEADS}.anchor_head:AnchorHead._get_targets_single",
        f"{HEADS}.atss_head:ATSSHead._get_targets_single",
        f"{HEADS}.gfl_head:GFLHead._get_targets_single",
        "mmdet.models.task_modules.prior_generators.utils:anchor_inside_flags",
    ],
    "kd.observers.recording.grid_assignment": [
        f"{HEADS}.yolo_head:YOLOV3Head._get_targets_single",
        "mmdet.models.task_modules.samplers.base_sampler:BaseSampler.sample",
        "mmdet.models.task_modules.samplers.pseudo_sampler:PseudoSampler.sample",
    ],
    "kd.observers.recording.point_assignment": [
        f"{HEADS}.fcos_head:FCOSHead._get_targets_single",
    ],
    "kd.observers.dynamic": [
        f"{HEADS}.rtmdet_head:RTMDetHead._get_targets_single",
        f"{HEADS}.rtmdet_head:RTMDetSepBNHead.forward",
        f"{HEADS}.yolox_head:YOLOXHead._get_targets_single",
        f"{HEADS}.yolox_head:YOLOXHead._bbox_decode",
        f"{HEADS}.yolox_head:YOLOXHead._get_l1_target",
    ],
    "kd.observers.recording.class_assignment": [
        f"{HEADS}.ddod_head:DDODHead.loss_by_feat",
        f"{HEADS}.ddod_head:DDODHead._get_targets_single",
    ],
    "kd.observers.recording.aligned_assignment": [
        f"{HEADS}.tood_head:TOODHead.get_targets",
        f"{HEADS}.tood_head:TOODHead._get_targets_single",
    ],
    "kd.observers.recording.refined_assignment": [
        f"{HEADS}.reppoints_head:RepPointsHead.loss_by_feat",
        f"{HEADS}.reppoints_head:RepPointsHead._get_targets_single",
    ],
    "kd.observers.refined": [
        f"{HEADS}.vfnet_head:VFNetHead.forward_single",
        f"{HEADS}.vfnet_head:VFNetHead.get_atss_targets",
        f"{HEADS}.tood_head:TOODHead.forward",
        f"{HEADS}.reppoints_head:RepPointsHead.forward_single",
        f"{HEADS}.reppoints_head:RepPointsHead.points2bbox",
    ],
    "kd.observers.two_stage": [
        "mmdet.models.roi_heads.standard_roi_head:StandardRoIHead.loss",
        "mmdet.models.roi_heads.standard_roi_head:StandardRoIHead.bbox_loss",
        "mmdet.models.detectors.two_stage:TwoStageDetector.loss",
    ],
    "kd.observers.base.MapsObservation": [
        "mmdet.models.detectors.single_stage:SingleStageDetector.extract_feat",
        "mmdet.models.detectors.single_stage:SingleStageDetector.loss",
        "mmdet.models.detectors.two_stage:TwoStageDetector.extract_feat",
    ],
    "kd.observers.branches": [
        f"{HEADS}.retina_head:RetinaHead.forward_single",
        f"{HEADS}.atss_head:ATSSHead.forward_single",
        f"{HEADS}.gfl_head:GFLHead.forward_single",
        f"{HEADS}.fcos_head:FCOSHead.forward_single",
    ],
    "kd.models.patched_heads": [
        f"{HEADS}.anchor_head:AnchorHead.loss_by_feat",
        f"{HEADS}.ssd_head:SSDHead.loss_by_feat",
        f"{HEADS}.base_dense_head:BaseDenseHead._predict_by_feat_single",
        "mmdet.utils.dist_utils:reduce_mean",
    ],
    "kd.training.parts.accumulation": [
        "mmengine.model.base_model.base_model:BaseModel.train_step",
        "mmengine.model.wrappers.distributed:MMDistributedDataParallel.train_step",
    ],
    "kd.training.loop.FiniteLoss": [
        "mmengine.model.base_model.base_model:BaseModel.parse_losses",
    ],
    "kd.data.mixing.images.MixedImages": [
        f"{TRANSFORMS}:Mosaic.get_indexes",
        f"{TRANSFORMS}:Mosaic._mosaic_combine",
    ],
    "kd.training.averaging.AverageWeights": [
        "mmdet.models.layers.ema:ExpMomentumEMA.avg_func",
        "mmengine.model.averaged_model:BaseAveragedModel.update_parameters",
    ],
    "kd.training.stages": [
        "mmdet.models.data_preprocessors.data_preprocessor:BatchSyncRandomResize.forward",
        f"{HEADS}.yolox_head:YOLOXHead.loss_by_feat",
    ],
    "kd.models.mmcv_ops": [
        "mmcv.ops.nms:NMSop.forward",
        "mmcv.ops.nms:SoftNMSop.forward",
        "mmcv.ops.roi_align:RoIAlignFunction.forward",
        "mmcv.ops.roi_align:RoIAlignFunction.backward",
        "mmcv.ops.focal_loss:SigmoidFocalLossFunction.forward",
        "mmcv.ops.focal_loss:SigmoidFocalLossFunction.backward",
    ],
    "kd.models.deform_ops": [
        "mmcv.ops.deform_conv:DeformConv2dFunction.forward",
        "mmcv.ops.deform_conv:DeformConv2dFunction.backward",
        "mmcv.ops.modulated_deform_conv:ModulatedDeformConv2dFunction.forward",
        "mmcv.ops.modulated_deform_conv:ModulatedDeformConv2dFunction.backward",
    ],
    "analysis.figures.final_boxes": [
        f"{HEADS}.base_dense_head:BaseDenseHead._bbox_post_process",
        "mmdet.models.utils.misc:filter_scores_and_topk",
    ],
}
"""Functions that our code wraps, or whose calls or results it relies on, by our code."""


# --- The source of mmdet, mmengine and mmcv --------------------------------------------------


def test_mmdet_has_the_source_that_our_classes_override_or_rely_on() -> None:
    """Fail with the class of ours to look at, and the digest to pin when it fits again."""
    pins = json.loads(PINS.read_text())
    users: dict[str, list[str]] = {}
    for user, method in (*overridden(), *relied_on()):
        users.setdefault(method, []).append(user)
    problems = [
        f"{method} has another source than the one that {' and '.join(sorted(names))} "
        f"was written for: read its change, adapt our code and {PAGE.name}, run the "
        f'tests listed there, then set "{method}": "{digest(method)}" in {PINS.name}'
        for method, names in users.items()
        if pins.get(method) != digest(method)
    ]
    assert not problems, "\n".join(problems)
    assert pins.keys() == users.keys(), "pins of methods that no code here uses any more"


def test_a_changed_source_has_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmdet.models.dense_heads import AnchorHead

    name = f"{HEADS}.anchor_head:AnchorHead.get_targets"
    before = digest(name)

    def get_targets(self: Any) -> None:
        """Replace the method as another version of mmdet would."""

    monkeypatch.setattr(AnchorHead, "get_targets", get_targets)
    assert digest(name) != before


def digest(name: str) -> str:
    """Return eight hex digits of the SHA-256 of a function's source, named ``module:function``."""
    module, _, path = name.partition(":")
    value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = inspect.getattr_static(value, part)
    value = getattr(value, "fget", None) or getattr(value, "__func__", value)
    return hashlib.sha256(inspect.getsource(inspect.unwrap(value)).encode()).hexdigest()[:8]


def relied_on() -> Iterator[tuple[str, str]]:
    for user, methods in RELIED_ON.items():
        for method in methods:
            yield user, method


def overridden() -> Iterator[tuple[str, str]]:
    """Yield each method of ours that overrides one of a framework, and the overridden one."""
    for derived in derived_classes():
        for index, owner in enumerate(derived.__mro__):
            if is_of_a_framework(owner):
                break
            for name in vars(owner):
                base = overridden_class(derived.__mro__[index + 1 :], name)
                if base:
                    method = f"{base.__module__}:{base.__qualname__}.{name}"
                    yield f"{owner.__module__}.{owner.__qualname__}.{name}", method


def overridden_class(bases: tuple[type, ...], name: str) -> type | None:
    """Return the first class of a framework that defines a method or property of this name."""
    for base in bases:
        value = vars(base).get(name)
        is_method = inspect.isfunction(value) or isinstance(value, property | classmethod)
        if is_of_a_framework(base) and is_method:
            return base
    return None


def derived_classes() -> list[type]:
    """Return all classes of ``kd`` that derive from a class of a framework."""
    return [
        value
        for module in modules()
        for value in vars(module).values()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and any(map(is_of_a_framework, value.__mro__))
    ]


def modules() -> list[ModuleType]:
    names = (info.name for info in pkgutil.walk_packages(kd.__path__, "kd."))
    return [importlib.import_module(name) for name in names if name != "kd.__main__"]


def is_of_a_framework(value: type) -> bool:
    return value.__module__.partition(".")[0] in FRAMEWORKS


# --- The registries and the page -------------------------------------------------------------


def registered() -> dict[str, Any]:
    """Return all that ``kd`` registers with mmdet and mmengine, by name."""
    import mmdet.registry
    import mmengine.registry

    import kd.runtime  # noqa: F401

    registries = [
        value
        for module in (mmdet.registry, mmengine.registry)
        for value in vars(module).values()
        if isinstance(value, mmengine.registry.Registry)
    ]
    return {
        name: value
        for registry in registries
        for name, value in registry.module_dict.items()
        if getattr(value, "__module__", "").startswith("kd.")
    }


def rows() -> list[list[str]]:
    """Return the cells of the page's tables."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    return [row for row in cells if not set(row[0]) <= {"-"}]


def test_the_page_lists_every_registered_class_and_no_other() -> None:
    names = {row[0].strip("`") for row in rows() if re.fullmatch(r"`\w+`", row[0])}
    derived = {value.__name__ for value in derived_classes()}
    assert names - {"parse_losses"} == registered().keys() | derived


def test_the_page_has_the_file_and_a_test_of_every_class() -> None:
    for name, value in registered().items():
        (row,) = (row for row in rows() if row[0] == f"`{name}`")
        file = value.__module__.replace(".", "/") + ".py"
        assert f"`{file}`" in row[-2], name
        assert "`tests/" in row[-1], name


def test_files_that_the_page_names_exist() -> None:
    files = re.findall(r"`([\w/]+\.py)`", PAGE.read_text(encoding="utf-8"))
    assert files
    assert not [file for file in files if not (REPOSITORY / file).is_file()]


def test_the_page_lists_every_class_in_place_of_mmdets() -> None:
    page_classes = {
        row[1].strip("`"): row[0].strip("`") for row in rows() if row[0].strip("`") in OURS
    }
    assert page_classes == CLASSES


OURS = {*CLASSES.values()}


def test_the_page_names_every_function_that_is_wrapped_on_an_object() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sources = [*(REPOSITORY / "kd").rglob("*.py"), *(REPOSITORY / "analysis").rglob("*.py")]
    calls = {
        (path, name)
        for path in sources
        for name in re.findall(r'wrapped\([\w.]+, "(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert len(calls) >= 4
    for path, name in calls:
        assert f"`{name}`" in text, name
        assert f"`{path.relative_to(REPOSITORY)}`" in text, path


@pytest.mark.parametrize("mmdets", CLASSES)
def test_mmdets_classes_keep_their_names(quiet_mmdet: None, mmdets: str) -> None:
    from mmdet.registry import MODELS

    ours = MODELS.get(CLASSES[mmdets])
    assert MODELS.get(mmdets).__module__.startswith("mmdet.")
    assert ours.__name__ == CLASSES[mmdets]
    assert ours.__module__.startswith("kd.")
    assert issubclass(ours, MODELS.get(mmdets))


# --- Imports ---------------------------------------------------------------------------------


def test_mmdet_is_imported_without_seaborn_and_without_warnings() -> None:
    code = (
        "import sys, kd.runtime\n"
        "assert 'mmdet' in sys.modules\n"
        "assert 'seaborn' not in sys.modules and 'pandas' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
