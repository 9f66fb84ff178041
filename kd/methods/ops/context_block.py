"""Global context blocks: one attention over all cells, added to each of them (Cao et al., 2019)."""

import torch
from torch import Tensor, nn


class GlobalContextBlock(nn.Module):
    """GCNet's block: y = x + W2 ReLU(LN(W1 sum_j a_j x_j)), a the softmax of W_k x over cells.

    The last layer starts at zero, so a new block returns its input. W_k has no bias, which the
    softmax would cancel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.attention = nn.Conv2d(channels, 1, 1, bias=False)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.LayerNorm([inner, 1, 1]),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
        )
        nn.init.kaiming_normal_(self.attention.weight, mode="fan_in", nonlinearity="relu")
        last = self.transform[3]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W)."""
        attention = self.attention(maps).flatten(2).softmax(2)
        context = torch.matmul(maps.flatten(2), attention.transpose(1, 2))[..., None]
        return maps + self.transform(context)
