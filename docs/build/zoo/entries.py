"""Entries of ``configs/zoo.yaml``: ``python -m docs.build.zoo.entries [FOLDER ...]`` (minutes).

Each detector in mmdet's index is built without weights and compared with every composed detector.
Those that predict alike become entries, with the schedule of their training and other differences.
"""

import pickle
import warnings
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from torch import nn

import kd.models.mmdet_setup  # noqa: F401
from docs.build.zoo import networks, trainings
from kd.common.files import write_text
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.zoo.index import every_line
from kd.models.registration import register

CLASSES = 80
HEADER = """\
# Detectors of mmdet's model zoo that equal a detector on a backbone of this project, by mmdet's
# folder and name. 'schedule' is that of their training. With 'differs', other parts of the training
# differ, and only a pair that names the detector learns from it. 'remark' states initial weights.
# Written by `python -m docs.build.zoo.entries`; a test compares it with mmdet's configurations.
"""
WHERE = "the model zoo"


class Network(NamedTuple):
    """A detector of this project, with all that is compared."""

    detector: str
    backbone: str
    shapes: dict[str, tuple[int, ...]]
    predictions: dict[str, Any]
    losses: dict[str, Any]


class Composer:
    """Composed detectors of scale ``paper`` without weights."""

    def __init__(self, library: Library) -> None:
        imports = {"imports": ["kd.runtime"], "allow_failed_imports": False}
        register({"custom_imports": imports})
        self.library = library
        self.network = cache(self._network)

    def like(self, model: dict[str, Any]) -> Iterator[Network]:
        """Yield the detectors on backbones of the classes that a published detector has."""
        library, theirs = self.library, model.get("backbone", {})
        for detector in (*library.names("detectors"), *library.names("teachers")):
            if library.detector(detector, WHERE).model["type"] != _same(model):
                continue
            for backbone in library.names("backbones"):
                ours = library.backbone(backbone, WHERE)[0].model
                same_depth = ours.get("depth") == theirs.get("depth") or ours["type"] == "VGG16"
                if ours["type"] == _same(theirs) and same_depth:
                    yield self.network(detector, backbone)

    def _network(self, detector: str, backbone: str) -> Network:
        init = "imagenet" if self.library.backbone(backbone, WHERE)[0].imagenet else "scratch"
        scale = self.library.scale("paper", WHERE)
        model = detector_model(detector, backbone, CLASSES, init, scale, self.library, WHERE)
        built = networks.built(model)
        names = (networks.shapes(built), networks.predictions(built), networks.losses(built))
        return Network(detector, backbone, *names)


def built(config: Config) -> nn.Module:
    """Return a published detector without weights."""
    return _built(pickle.dumps(config.model.to_dict()))


@lru_cache(maxsize=4)
def _built(model: bytes) -> nn.Module:
    """Return the detector of a configuration, which trainings of other lengths share."""
    return networks.built(pickle.loads(model))


def _same(part: dict[str, Any]) -> str | None:
    """Return the class here that a part of mmdet's model is compared with."""
    kind = part.get("type")
    return {"MaskRCNN": "FasterRCNN", "SSDVGG": "VGG16"}.get(kind or "", kind)


def entry(config: Config, library: Library, network: Network) -> dict[str, Any] | None:
    """Return the entry of a published detector that equals ``network``; None if it differs."""
    theirs = built(config)
    without = _branch(theirs, network)
    if without is None or _predicts_otherwise(theirs, network, library):
        return None
    part = library.detector_on(network.detector, network.backbone, WHERE)
    side = part.input_size if part.augmentation in ("ssd", "yolo") else None
    settings, differences = trainings.schedule_of(config)
    differences += filter(None, [trainings.images(config, side)])
    differences += ["a mask branch"] if without else _other_losses(theirs, network)
    backbone, _ = library.backbone(network.backbone, WHERE)
    initial = trainings.initial(config, backbone)
    return {
        "detector": network.detector,
        "backbone": network.backbone,
        "schedule": trainings.name_of(settings, library),
        **({"without": [without]} if without else {}),
        **({"differs": ", ".join(differences)} if differences else {}),
        **({"remark": f"initial weights: {initial}"} if initial else {}),
    }


def _branch(built: nn.Module, network: Network) -> str | None:
    """Return the prefix of weights to leave out, ``""`` for none; None for other weights."""
    shapes = networks.shapes(built)
    if shapes == network.shapes:
        return ""
    rest = {name: shape for name, shape in shapes.items() if not name.startswith(networks.MASK)}
    return networks.MASK if rest == network.shapes else None


def _predicts_otherwise(built: nn.Module, network: Network, library: Library) -> bool:
    theirs, ours = networks.predictions(built), dict(network.predictions)
    if library.detector_on(network.detector, network.backbone, WHERE).input_size:
        for settings in (theirs, ours):  # images of one size, which are a multiple of 32 anyway
            del settings["images.divisor"]
    return theirs != ours


def _other_losses(built: nn.Module, network: Network) -> list[str]:
    theirs, ours = networks.losses(built), network.losses
    if network.detector.startswith("ssd"):  # mmdet computes the same loss without a module
        ours = {key: value for key, value in ours.items() if key in theirs}
    names = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
    return [f"other {', '.join(name.rpartition('.')[2] for name in names)}"] if names else []


def entries(library: Library) -> dict[str, dict[str, Any]]:
    """Return all entries by folder and name."""
    by_folder: dict[str, dict[str, Any]] = {}
    composer = Composer(library)
    for line in every_line():
        try:
            config = Config.fromfile(str(line.config))
        except (ImportError, FileNotFoundError):  # a package or a file that this machine lacks
            print(f"{line.name}: not compared, because its configuration cannot be read")
            continue
        for network in composer.like(config.model):
            try:
                settings = entry(config, library, network)
            except Exception as error:  # such as a layer that only builds in a group of processes
                print(f"{line.name}: not compared ({type(error).__name__}: {error})")
                break
            if settings:
                by_folder.setdefault(line.folder, {})[line.name] = settings
                break
    return by_folder


def render(by_folder: dict[str, dict[str, Any]]) -> str:
    """Return the text of the file."""
    lines = [HEADER]
    for folder, by_name in by_folder.items():
        lines.append(f"{folder}:\n")
        for name, settings in by_name.items():
            lines.append(f"  {name}:\n")
            lines += [f"    {key}: {_text(value)}\n" for key, value in settings.items()]
    return "".join(lines)


def _text(value: Any) -> str:
    return (
        f"[{', '.join(value)}]"
        if isinstance(value, list)
        else f'"{value}"'
        if ":" in value
        else value
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    write_text(Path("configs/zoo.yaml"), render(entries(Library())))
