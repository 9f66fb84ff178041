"""Multi-scale deformable attention against a loop over sampling points (float64)."""

import itertools
import math

import torch

from kd.models.mmcv_ops import install, ms_deform_attn_forward

install()

HEADS, WIDTH, QUERIES, POINTS = 2, 3, 4, 2
SHAPES = [(3, 4), (2, 2)]


def sample(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Return the channels (c,) of a level (H, W, c) at a point, x and y in its sides; 0 outside."""
    height, width = level.shape[:2]
    column, row = x * width - 0.5, y * height - 0.5
    total = level.new_zeros(level.shape[2])
    left, top = math.floor(column), math.floor(row)
    for i, j in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= i < height and 0 <= j < width:
            total += (1 - abs(row - i)) * (1 - abs(column - j)) * level[i, j]
    return total


def test_it_is_the_weighted_sum_of_bilinear_samples_of_all_levels() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = [height * width for height, width in SHAPES]
    value = torch.randn(1, sum(cells), HEADS, WIDTH, generator=generator).double()
    size = (1, QUERIES, HEADS, len(SHAPES), POINTS)
    # Some points lie outside of the maps.
    locations = 1.4 * torch.rand(*size, 2, generator=generator).double() - 0.2
    weights = torch.rand(size, generator=generator).double()
    shapes, starts = torch.tensor(SHAPES), torch.tensor([0, cells[0]])

    result = ms_deform_attn_forward(value, shapes, starts, locations, weights, 64)

    levels = [
        part[0].unflatten(0, side) for part, side in zip(value.split(cells, 1), SHAPES, strict=True)
    ]
    expected = torch.zeros(1, QUERIES, HEADS, WIDTH, dtype=torch.float64)
    places = itertools.product(range(QUERIES), range(HEADS), range(len(SHAPES)), range(POINTS))
    for query, head, level, point in places:
        x, y = locations[0, query, head, level, point].tolist()
        weight = weights[0, query, head, level, point]
        expected[0, query, head] += weight * sample(levels[level][:, :, head], x, y)
    torch.testing.assert_close(result, expected.flatten(2), rtol=0, atol=1e-12)
