"""Looking into trained networks: those of a run, and images with their objects, one at a time."""

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import nn

import kd.runtime  # noqa: F401
from kd.common.errors import UserError
from kd.common.progress import progress
from kd.config.compose import WEIGHTS
from kd.config.composed import ComposedConfig
from kd.data.sampling import build
from kd.models import weights
from kd.models.build import build_model
from kd.observers import Batch

SplitName = Literal["train", "test"]


@dataclass(frozen=True)
class Probe:
    """The networks of a run, in eval mode, on the GPU where there is one."""

    directory: Path
    detector: Any
    """The detector that was trained; of a distilled run the student."""
    model: Any
    """The Distiller of a distilled run, whose student is ``detector``; else ``detector``."""
    adapted: bool
    """Whether the model has the adaptation layers that the run was trained with."""

    @classmethod
    def load(cls, directory: Path, *, frozen: bool = True) -> "Probe":
        """Load a run's networks; UserError where its weights do not fit its configuration.

        ``frozen``: without gradients of parameters, as for a teacher.
        """
        init_default_scope("mmdet")
        model: nn.Module = build_model(ComposedConfig.read(directory).model)
        detector: nn.Module = getattr(model, "student", model)  # type: ignore[assignment]
        weights.load_strictly(detector, directory / WEIGHTS)
        adapters = weights.read(directory / WEIGHTS).get("adapters")
        if adapters is not None:
            model.adapters.load_state_dict(adapters)  # type: ignore[union-attr, operator]
        model.requires_grad_(not frozen)
        return cls(directory, detector.eval(), model.eval().to(get_device()), adapters is not None)

    def batch(self, sample: dict[str, Any]) -> Batch:
        """Return one of ``images`` as the network sees it, normalised and padded."""
        preprocessor = self.model.data_preprocessor
        data = preprocessor(pseudo_collate([sample]), training=True)
        mean, std = preprocessor.mean.flatten(), preprocessor.std.flatten()
        return Batch(data["inputs"], data["data_samples"], mean=mean, std=std)

    def check_adapters(self) -> None:
        """UserError where the model has adaptation layers that are not those of its training."""
        adapters = getattr(self.model, "adapters", nn.ModuleDict())
        if list(adapters.parameters()) and not self.adapted:
            raise UserError(
                f"{self.directory / WEIGHTS}: does not hold the adaptation layers of its training, "
                "which earlier versions did not keep; train the run again"
            )


def images(
    directory: Path, count: int | None, seed: int, split: SplitName = "test", what: str = "images"
) -> Iterator[dict[str, Any]]:
    """Yield images with objects of a split, drawn by ``seed``, resized but not augmented.

    Each is what mmdet's pipeline makes: ``inputs`` (3, H, W) and ``data_samples`` with the ground
    truth. All without a ``count``, fewer where there are fewer; UserError where none has an object.
    """
    dataset = _with_objects(ComposedConfig.read(directory), split, directory)
    order = list(range(len(dataset)))
    random.Random(seed).shuffle(order)
    found = (sample for index in order if _has_objects(sample := dataset[index]))
    wanted = len(order) if count is None else min(count, len(order))
    yield from progress(_first(found, wanted, directory, split), wanted, what)


def _first(
    found: Iterator[dict[str, Any]], count: int, directory: Path, split: str
) -> Iterator[dict[str, Any]]:
    sample = None
    for sample in islice(found, count):
        yield sample
    if sample is None:
        raise UserError(f"{directory}: no image of the {split} split has an object")


def _with_objects(config: ComposedConfig, split: SplitName, directory: Path) -> Any:
    """Return a split's data set with the test pipeline, which is told to load boxes too."""
    if not config.has_split(split):
        raise UserError(f"{directory}: its weights are published ones, without a training set")
    loading, *rest = config.readers("test")[0]["pipeline"]
    pipeline = [loading, {"type": "LoadAnnotations", "with_bbox": True}, *rest]
    parts = [part | {"pipeline": pipeline} for part in copy.deepcopy(config.readers(split))]
    return build(parts[0] if len(parts) == 1 else {"type": "ConcatDataset", "datasets": parts})


def _has_objects(sample: dict[str, Any]) -> bool:
    return len(sample["data_samples"].gt_instances) > 0


def shown(batch: Batch) -> torch.Tensor:
    """Return the first image of a batch as (H, W, 3) between 0 and 1, on the CPU."""
    assert batch.mean is not None and batch.std is not None
    pixels = batch.inputs[0] * batch.std[:, None, None] + batch.mean[:, None, None]
    return (pixels / 255).clamp(0, 1).permute(1, 2, 0).cpu()
