"""Non-local blocks: relations between all cells of a map (Wang et al., CVPR 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.methods.ops.reduction import over, shared_sum


class NonLocalBlock(nn.Module):
    """Dot-product block: y_i = 1/N sum_j (theta_i . phi_j) g_j, back to the map's channels.

    As in copies of FKD's published code, ``phi`` and ``g`` are pooled, and the result is normalized
    and added to the map. The normalization starts at zero, so a new block returns its input.
    Without ``residual`` the block returns the relation alone, without normalization.
    """

    def __init__(self, channels: int, inner: int, pool: int, residual: bool = True) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = ZeroBatchNorm(channels) if residual else nn.Identity()
        self.pool, self.residual = pool, residual

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W)."""
        theta = self.theta(maps)
        # A map smaller than the window is pooled as a whole.
        window = [min(self.pool, side) for side in maps.shape[-2:]]
        phi, g = (F.max_pool2d(layer(maps), window).flatten(2) for layer in (self.phi, self.g))
        # The sum over j comes first: the affinities of all pairs of cells are (H W)^2 numbers.
        context = phi @ g.transpose(1, 2) / phi.shape[2]
        relation = (context.transpose(1, 2) @ theta.flatten(2)).unflatten(2, maps.shape[-2:])
        relation = self.norm(self.out(relation))
        return maps + relation if self.residual else relation


class ZeroBatchNorm(nn.Module):
    """Batch normalization over all processes, with initial weight and bias 0.

    It runs in training only, so it has no running statistics. If a batch is computed in parts, the
    statistics are those of a part.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W)."""
        with over(None):
            count = shared_sum(maps.new_full((), maps[:, 0].numel()))
            centered = maps - shared_sum(maps.sum((0, 2, 3)))[:, None, None] / count
            # The mean of squares less the squared mean would cancel digits of a small variance.
            variance = shared_sum(centered.square().sum((0, 2, 3))) / count
        scale = self.weight * (variance + self.eps).rsqrt()
        return centered * scale[:, None, None] + self.bias[:, None, None]
