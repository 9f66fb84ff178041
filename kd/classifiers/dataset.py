"""Object crops as a data set of mmdet, and a sampler that draws every class equally often."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATA_SAMPLERS, DATASETS
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.tv_tensors import BoundingBoxes, Image

from kd.classifiers.augment import AUGMENTATIONS, MEAN_COLOR
from kd.classifiers.pack import Pack, remedy
from kd.common.errors import UserError
from kd.data.sampling import EpochSampler, mix
from kd.methods.ops.spatial_transformer import crops


@DATASETS.register_module()
class ObjectCrops(Dataset[dict[str, Any]]):
    """Data set of object crops: ``inputs`` (3, size, size), RGB of 0 to 255, and ``labels``.

    ``folder`` and ``split``: a pack of crops; ``augmentation``: a key of AUGMENTATIONS, or None.
    """

    def __init__(
        self, folder: str, split: str, classes: list[str], size: int, augmentation: str | None
    ) -> None:
        self.pack = Pack(Path(folder), split)
        if self.pack.classes != list(classes):
            raise UserError(
                f"{folder}: crops of the {len(self.pack.classes)} classes "
                f"{', '.join(self.pack.classes)}; the classifier has {len(classes)}: "
                f"{', '.join(classes)}; compose it again or, if the data changed, "
                f"{remedy(Path(folder))}"
            )
        self.metainfo = {"classes": tuple(classes)}
        self.size = size
        self.augment = AUGMENTATIONS[augmentation] if augmentation else None

    @property
    def labels(self) -> list[int]:
        """Class of each crop."""
        return self.pack.labels.tolist()

    def full_init(self) -> None:
        """Do nothing; mmengine calls this before it reads samples."""

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels, corners = self.pack.pixels(index), self.pack.boxes[index]
        image = Image(torch.from_numpy(pixels).permute(2, 0, 1))
        box = BoundingBoxes(corners[None], format="XYXY", canvas_size=pixels.shape[:2])
        if self.augment:
            image, box = self.augment(image, box)
        label = int(self.pack.labels[index])
        return {"inputs": cut_out(image, box, self.size), "labels": label}


def cut_out(image: Image, box: BoundingBoxes, size: int) -> Tensor:
    """Return the content of the box (1, 4) of an image (3, H, W), as (3, size, size) of 0 to 255.

    Sampling is that of distillation, where pixels beyond the image have the mean color.
    """
    mean = torch.tensor(MEAN_COLOR, dtype=torch.float32)[:, None, None]
    pixels = image.as_subclass(Tensor) - mean
    return crops(pixels[None], torch.tensor([0]), box.as_subclass(Tensor), size)[0] + mean


@DATA_SAMPLERS.register_module()
class BalancedSampler(EpochSampler):
    """Sampler with replacement that draws every class equally likely, N of N samples an epoch.

    The data set has ``labels``, one a sample. A sample drawn twice in an epoch is augmented twice,
    because every draw counts as a separate epoch in the index that it yields.
    """

    def order(self) -> list[int]:
        """Return the samples of the epoch in order, for all processes together."""
        labels = torch.as_tensor(self.dataset.labels)
        counts = torch.bincount(labels).double()
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch))
        total = len(self) * self.world
        return torch.multinomial(
            1 / counts[labels], total, replacement=True, generator=generator
        ).tolist()

    def __iter__(self) -> Iterator[int]:
        count, order = len(self.dataset), self.order()
        for draw in range(self.rank, len(order), self.world)[self.start :]:
            yield (self.epoch * len(order) + draw) * count + order[draw]
