"""Training loader that copies each image as few times as possible.

It replaces mmdet's packing and mmengine's collation when a runner is built; composed configurations
name theirs. Its batches are bit-identical to theirs.
"""

import io
import mmap
import pickle
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from torch import Tensor
from torch.utils.data import get_worker_info

from kd.common import nested

PREFETCHED = 2
"""Batches that a worker prepares in advance, torch's default."""

Settings = dict[str, Any]


@TRANSFORMS.register_module()
class PackPixels(PackDetInputs):
    """mmdet's packing of samples, with images (3, H, W) as views of their pixels (H, W, 3).

    Batches of such views are equal and take half the time to collate.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results.pop("img")
        is_flipped = image.strides[1] < 0  # a view; OpenCV copies it thirty times as fast as NumPy
        pixels = cv2.flip(image[:, ::-1], 1) if is_flipped else np.ascontiguousarray(image)
        return {"inputs": torch.from_numpy(pixels).permute(2, 0, 1), **super().transform(results)}


def fast_loader(loader: Settings, workers: int) -> Settings:
    """Return the settings of a composed training loader with ``workers`` and the fast collation."""
    dataset = nested.changed(loader["dataset"], _packed)
    settings = {
        **loader,
        "dataset": dataset,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
    }
    largest = max(map(_pixels, nested.pipelines(dataset)), default=0)
    if workers and largest and "collate_fn" not in loader:
        size = 3 * largest * loader["batch_size"]
        collate = {"type": hand_over.__name__, "memory": _reserve(workers, size)}
        settings |= {"collate_fn": collate, "prefetch_factor": PREFETCHED}
    return settings


def _packed(dataset: Settings) -> Settings:
    """Return the settings of one data set with ``PackPixels``."""
    replacements = {"PackDetInputs": PackPixels.__name__}
    pipelines = {
        key: [{**step, "type": replacements.get(step["type"], step["type"])} for step in steps]
        for key in nested.PIPELINES
        if (steps := dataset.get(key)) is not None
    }
    return {**dataset, **pipelines}


def _pixels(pipeline: list[Settings]) -> int:
    """Return the largest number of pixels of an image, 0 if the pipeline does not resize."""
    width, height = nested.image_size(pipeline) or (0, 0)
    return width * height


# --- From workers to the training process ----------------------------------------------------

# torch sends each tensor of a worker in new shared memory. The system clears and maps every page of
# it, which takes longer than decoding. Here each worker reuses memory for ``PREFETCHED`` batches.
# The training process copies a batch out before it requests another one.

_memories: list[tuple[list[mmap.mmap], int]] = []
_batches_sent = 0
"""Number of batches that this worker has sent."""


def _reserve(workers: int, size: int) -> int:
    """Reserve memory for batches of ``size`` bytes before workers are forked; return its number.

    The system allocates pages at their first use only.
    """
    _memories.append(([mmap.mmap(-1, PREFETCHED * size) for _ in range(workers)], size))
    return len(_memories) - 1


@FUNCTIONS.register_module()
def hand_over(samples: list[Any], memory: int) -> Any:
    """Collate samples as mmengine does; in a worker, put images into the reserved memory."""
    global _batches_sent
    batch, worker = pseudo_collate(samples), get_worker_info()
    images = batch["inputs"]
    size = _memories[memory][1]
    if worker is None or not isinstance(images, list):
        return batch
    if sum(image.nbytes for image in images) > size:
        return batch
    offset = (_batches_sent % PREFETCHED) * size
    _batches_sent += 1
    end = offset
    for image in images:
        _image_at(memory, worker.id, end, image.shape).copy_(image)
        end += image.nbytes
    shapes = [tuple(image.shape) for image in images]
    return _SharedBatch(memory, worker.id, offset, shapes, batch["data_samples"])


def _image_at(memory: int, worker: int, offset: int, shape: tuple[int, ...]) -> Tensor:
    """Return memory at an offset as an image of a shape (3, H, W), stored pixel by pixel."""
    channels, height, width = shape
    flat = torch.frombuffer(
        _memories[memory][0][worker],
        dtype=torch.uint8,
        count=channels * height * width,
        offset=offset,
    )
    return flat.view(height, width, channels).permute(2, 0, 1)


class _SharedBatch:
    """Batch in shared memory, which unpickles to a copy of the batch."""

    def __init__(self, *content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        *place, samples = self.content
        stream = io.BytesIO()
        _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(samples)
        return _copy_batch, (*place, stream.getvalue())


class _Pickler(pickle.Pickler):
    """Pickler of small tensors as arrays; torch would send a file of shared memory for each."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if type(value) is Tensor else NotImplemented


def _copy_batch(
    memory: int, worker: int, offset: int, shapes: list[Any], samples: bytes
) -> dict[str, Any]:
    """Return a batch whose images are copied out of the reserved memory."""
    images = []
    for shape in shapes:
        images.append(_image_at(memory, worker, offset, shape).clone())
        offset += images[-1].nbytes
    return {"inputs": images, "data_samples": pickle.loads(samples)}
