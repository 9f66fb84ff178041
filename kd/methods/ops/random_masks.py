"""Random masks of maps as functions of the seed, the step and the image."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from kd.observers import Batch
else:
    torch = LazyModule("torch")


def random_masks(batch: Batch, sizes: Sequence[tuple[int, int]], share: float) -> list[Tensor]:
    """Return, per level (B, H, W), 0 in a random share of the cells and 1 in the others.

    ``sizes``: height and width of each level in cells. The draws of an image depend on the seed of
    torch's generator, which ``kd.training.loop.SeedEachStep`` sets from seed and step, and on the
    image's id. They have separate generators: the other draws of the step, such as sampled RoIs,
    are those of a training without masks, and an image has the same masks in every process.
    """
    cells = [height * width for height, width in sizes]
    device, seed = batch.inputs.device, torch.initial_seed()
    uniform = []
    for position, sample in enumerate(batch.samples):
        generator = torch.Generator(device)
        image = getattr(sample, "img_id", position)
        generator.manual_seed(crc32(f"{seed} {image}".encode()))
        uniform.append(torch.rand(sum(cells), generator=generator, device=device))
    masks = (torch.stack(uniform) >= share).to(batch.inputs.dtype)
    levels = zip(masks.split(cells, 1), sizes, strict=True)
    return [level.reshape(-1, *size) for level, size in levels]
