"""Networks of trained runs, and annotated images for them, one at a time."""

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
from kd.data.sampling import build_dataset
from kd.models import weights
from kd.models.build import build_model
from kd.observers import Batch

SplitName = Literal["train", "test"]


@dataclass(frozen=True)
class RunNetworks:
    """Networks of a run, in eval mode, on the GPU if there is one."""

    directory: Path
    detector: Any
    """The trained detector; the student if the run is distilled."""
    model: Any
    """The Distiller of a distilled run, whose student is ``detector``; otherwise ``detector``."""
    has_trained_adapters: bool
    """If true, the adaptation layers of the model are those of the run's training."""

    @classmethod
    def load(cls, directory: Path, *, frozen: bool = True) -> "RunNetworks":
        """Load the networks of a run; UserError if its weights do not fit its configuration.

        ``frozen`` networks have no gradients of parameters, as a teacher has none.
        """
        init_default_scope("mmdet")
        model: nn.Module = build_model(ComposedConfig.read(directory).model)
        detector: nn.Module = getattr(model, "student", model)  # type: ignore[assignment]
        weights.load_strictly(detector, directory / WEIGHTS)
        adapters = weights.read(directory / WEIGHTS).get("adapters")
        if adapters is not None:
            model.adapters.load_state_dict(adapters)  # type: ignore[union-attr, operator]
        if hasattr(model, "always_active"):
            model.always_active()  # type: ignore[operator]
        model.requires_grad_(not frozen)
        return cls(directory, detector.eval(), model.eval().to(get_device()), adapters is not None)

    def batch(self, sample: dict[str, Any]) -> Batch:
        """Return a sample of ``annotated_images`` as a batch, normalized and padded."""
        preprocessor = self.model.data_preprocessor
        data = preprocessor(pseudo_collate([sample]), training=True)
        mean, std = preprocessor.mean.flatten(), preprocessor.std.flatten()
        is_bgr = not ComposedConfig.read(self.directory).student["data_preprocessor"]["bgr_to_rgb"]
        return Batch(data["inputs"], data["data_samples"], mean=mean, std=std, is_bgr=is_bgr)

    def check_adapters(self) -> None:
        """Raise a UserError if the model has adaptation layers without trained weights."""
        adapters = getattr(self.model, "adapters", nn.ModuleDict())
        if list(adapters.parameters()) and not self.has_trained_adapters:
            raise UserError(
                f"{self.directory / WEIGHTS}: does not hold the adaptation layers of its training, "
                "which earlier versions did not save; train the run again"
            )


def annotated_images(
    directory: Path, count: int | None, seed: int, split: SplitName = "test", name: str = "images"
) -> Iterator[dict[str, Any]]:
    """Yield ``count`` images with objects from a split, or all, in an order drawn with ``seed``.

    A sample is the output of mmdet's test pipeline: ``inputs`` (3, H, W), resized and not
    augmented, and ``data_samples`` with the ground truth. ``name`` labels the progress. UserError
    if no image has an object.
    """
    dataset = annotated_dataset(ComposedConfig.read(directory), split, directory)
    order = list(range(len(dataset)))
    random.Random(seed).shuffle(order)
    samples = (sample for index in order if _has_objects(sample := dataset[index]))
    total = len(order) if count is None else min(count, len(order))
    yield from progress(_first_samples(samples, total, directory, split), total, name)


def _first_samples(
    samples: Iterator[dict[str, Any]], count: int, directory: Path, split: str
) -> Iterator[dict[str, Any]]:
    sample = None
    for sample in islice(samples, count):
        yield sample
    if sample is None:
        raise UserError(f"{directory}: no image of the {split} split has an object")


def annotated_dataset(config: ComposedConfig, split: SplitName, directory: Path) -> Any:
    """Return the data set of a split with the test pipeline, extended to load boxes."""
    if not config.has_split(split):
        raise UserError(f"{directory}: its weights are published ones, without a training set")
    loading, *rest = config.readers("test")[0]["pipeline"]
    pipeline = [loading, {"type": "LoadAnnotations", "with_bbox": True}, *rest]
    readers = [reader | {"pipeline": pipeline} for reader in copy.deepcopy(config.readers(split))]
    return build_dataset(
        readers[0] if len(readers) == 1 else {"type": "ConcatDataset", "datasets": readers}
    )


def _has_objects(sample: dict[str, Any]) -> bool:
    return len(sample["data_samples"].gt_instances) > 0


def image_of(batch: Batch) -> torch.Tensor:
    """Return the first image of a batch, denormalized: (H, W, 3), RGB, 0 to 1, on the CPU."""
    assert batch.mean is not None and batch.std is not None
    pixels = batch.inputs[0] * batch.std[:, None, None] + batch.mean[:, None, None]
    pixels = pixels.flip(0) if batch.is_bgr else pixels
    return (pixels / 255).clamp(0, 1).permute(1, 2, 0).cpu()
