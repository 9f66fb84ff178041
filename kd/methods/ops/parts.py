"""Sums over the parts of a step's batch, which are computed one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


class Parts:
    """Sums over all parts of a step's batch, in all processes.

    A sum over the whole batch is known only after its last part. All parts are therefore computed
    first to record their values. They are computed again with gradients, and the k-th sum of a part
    is then that of the k-th values of all parts. A sum that depends on other sums needs another
    round of recording for each sum in the chain (``depth``).
    """

    def __init__(self, count: int, device: torch.device | str, processes: int = 1) -> None:
        """Prepare ``count`` parts in each of ``processes``; ``device``: where sums are computed."""
        self.count, self.device, self.processes = count, device, processes
        self.participants = count * processes
        self.current = 0
        """Index of the part that is being computed."""
        self.rounds = 0
        """Finished rounds of recording."""
        self.recording = False
        self._depth = self._position = 0
        self._values: list[list[Tensor]] = []
        self._totals: list[Tensor] = []

    @property
    def required_rounds(self) -> int:
        """Rounds of recording after which all sums are those of the whole batch."""
        return 1 + self._depth if self._totals else 0

    def start(self, index: int, *, recording: bool) -> None:
        """Start a part: the next sum is its first one."""
        if recording and index == 0:
            self._values = [[] for _ in range(self.count)]
        self.current, self.recording, self._position = index, recording, 0

    def total(self, value: Tensor, depth: int = 0) -> Tensor:
        """Return the sum of ``value`` over all parts, of its shape.

        ``depth``: the number of earlier sums, one after the other, that ``value`` depends on. The
        gradient is that of a loss which is the same function of the sum in all parts: their
        gradients are averaged, so each part's counts as often as there are parts.
        """
        position = self._position
        self._position += 1
        self._depth = max(self._depth, depth)
        if self.recording:
            self._values[self.current].append(value.detach().clone())
        if position >= len(self._totals):
            if not self.recording:
                raise RuntimeError(f"sum {position + 1} of part {self.current + 1} is not recorded")
            return self.participants * value
        total = self._totals[position].to(value)
        if value.requires_grad:
            return total + self.participants * (value - value.detach())
        return total

    def finish_round(self) -> None:
        """Add the recorded values of all parts and processes, in float64."""
        self.rounds += 1
        first = self._values[0]
        shapes = [[tuple(value.shape) for value in values] for values in self._values]
        if any(others != shapes[0] for others in shapes):
            raise RuntimeError("the parts of a batch do not have the same sums")
        if not first:
            return
        flat = [
            torch.cat([value.flatten().to(self.device, torch.float64) for value in values])
            for values in self._values
        ]
        summed = torch.stack(flat).sum(0)
        if self.processes > 1:
            torch.distributed.all_reduce(summed)
        pieces = summed.split([value.numel() for value in first])
        self._totals = [piece.view(value.shape) for piece, value in zip(pieces, first, strict=True)]
