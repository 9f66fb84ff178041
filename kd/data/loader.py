"""What a training loader does at each image besides decoding it, in the fewest copies.

Decided when a runner is built: composed configurations name mmdet's own transform and mmengine's
collation, and what comes out is theirs to the bit.
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
"""Batches that a worker is asked for before the first of them is taken, torch's default."""

Settings = dict[str, Any]


@TRANSFORMS.register_module()
class PackPixels(PackDetInputs):
    """mmdet's packing, but that an image (3, H, W) stays a view of its pixels (H, W, 3).

    Batches are put together from either alike, and from this in half the time.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results.pop("img")
        flipped = image.strides[1] < 0  # a view, which OpenCV copies thirty times as fast as NumPy
        pixels = cv2.flip(image[:, ::-1], 1) if flipped else np.ascontiguousarray(image)
        return {"inputs": torch.from_numpy(pixels).permute(2, 0, 1), **super().transform(results)}


def quick(loader: Settings, workers: int) -> Settings:
    """Return a composed training loader's settings with ``workers`` and what is fastest here."""
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
    """Return settings of one data set with the faster packing."""
    if "pipeline" not in dataset:
        return dataset
    faster = {"PackDetInputs": PackPixels.__name__}
    steps = [
        {**step, "type": faster.get(step["type"], step["type"])} for step in dataset["pipeline"]
    ]
    return {**dataset, "pipeline": steps}


def _pixels(pipeline: list[Settings]) -> int:
    """Return the largest number of pixels of an image, 0 if the pipeline does not resize."""
    width, height = nested.image_size(pipeline) or (0, 0)
    return width * height


# --- From workers to the process that trains -------------------------------------------------

# A tensor that a worker sends lies in new shared memory each time, and the system clears and maps
# every page of it: longer than decoding took. Here each worker has memory for the batches that it
# may be asked for, used again and again, and the other side copies out before it asks for more.

_memories: list[tuple[list[mmap.mmap], int]] = []
_made = 0
"""Batches that this worker has made."""


def _reserve(workers: int, size: int) -> int:
    """Reserve memory for batches of ``size`` bytes, before workers are forked; return its number.

    Memory that is never used is never taken.
    """
    _memories.append(([mmap.mmap(-1, PREFETCHED * size) for _ in range(workers)], size))
    return len(_memories) - 1


@FUNCTIONS.register_module()
def hand_over(samples: list[Any], memory: int) -> Any:
    """Collate samples as mmengine does, in a worker for its way to the process that trains."""
    global _made
    batch, worker = pseudo_collate(samples), get_worker_info()
    images = batch["inputs"]
    size = _memories[memory][1]
    if worker is None or not isinstance(images, list) or sum(each.nbytes for each in images) > size:
        return batch
    place = (_made % PREFETCHED) * size
    _made += 1
    end = place
    for image in images:
        _at(memory, worker.id, end, image.shape).copy_(image)
        end += image.nbytes
    shapes = [tuple(image.shape) for image in images]
    return _Handed(memory, worker.id, place, shapes, batch["data_samples"])


def _at(memory: int, worker: int, place: int, shape: tuple[int, ...]) -> Tensor:
    """Return a place in memory as an image of a shape (3, H, W), one pixel after another."""
    channels, height, width = shape
    flat = torch.frombuffer(
        _memories[memory][0][worker],
        dtype=torch.uint8,
        count=channels * height * width,
        offset=place,
    )
    return flat.view(height, width, channels).permute(2, 0, 1)


class _Handed:
    """A batch on its way: it becomes the batch where it is received."""

    def __init__(self, *content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        *where, samples = self.content
        stream = io.BytesIO()
        _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(samples)
        return _received, (*where, stream.getvalue())


class _Pickler(pickle.Pickler):
    """Pickles small tensors as arrays; torch would send a file of shared memory for each."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if type(value) is Tensor else NotImplemented


def _received(memory: int, worker: int, place: int, shapes: list[Any], samples: bytes) -> Any:
    images = []
    for shape in shapes:
        images.append(_at(memory, worker, place, shape).clone())
        place += images[-1].nbytes
    return {"inputs": images, "data_samples": pickle.loads(samples)}
