"""Operations at which a host waits for a GPU are counts, also without a GPU."""

from collections.abc import Callable

import pytest
import torch

from kd.profiling.synchronizations import synchronizations

VALUES = torch.arange(12.0).reshape(3, 4)
MASK = VALUES > 5


def put(values: torch.Tensor, value: object) -> None:
    values[MASK] = value  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("work", "operator"),
    [
        (lambda: VALUES.sum().item(), "aten._local_scalar_dense"),
        (lambda: bool(MASK.any()), "aten._local_scalar_dense"),
        (lambda: float(VALUES[0, 0]), "aten._local_scalar_dense"),
        (lambda: VALUES[VALUES.argmax() // 4], "aten._local_scalar_dense"),
        (lambda: MASK.nonzero(), "aten.nonzero"),
        (lambda: torch.where(MASK), "aten.nonzero"),
        (lambda: VALUES[MASK], "aten.index"),
        (lambda: VALUES[:, MASK[0]], "aten.index"),
        (lambda: put(VALUES.clone(), torch.zeros(6)), "aten.index_put_"),
        (lambda: VALUES.masked_select(MASK), "aten.masked_select"),
        (lambda: VALUES.unique(), "aten._unique2"),
        (lambda: torch.bincount(VALUES.long().flatten()), "aten.bincount"),
        (lambda: VALUES[0].repeat_interleave(torch.arange(4)), "aten.repeat_interleave"),
        (lambda: VALUES.tolist(), "tolist"),
        (lambda: VALUES.cpu(), "cpu"),
        (lambda: VALUES.numpy(), "numpy"),
        (lambda: torch.tensor([1, 2], device=VALUES.device), "tensor"),
        (lambda: VALUES.new_tensor([1, 2]), "new_tensor"),
    ],
)
def test_each_kind_is_counted_once(work: Callable[[], object], operator: str) -> None:
    with synchronizations() as counts:
        work()
    assert counts == {operator: 1}


def test_arithmetic_never_waits() -> None:
    weights = VALUES.clone().requires_grad_()
    index = torch.tensor([0, 2])
    with synchronizations() as counts:
        put(VALUES.clone(), 0.0)
        picked = torch.where(MASK, weights, weights.new_zeros(())).softmax(1)[index]
        torch.full((2,), 3.0, device=VALUES.device)
        VALUES[0].repeat_interleave(2)
        picked.square().sum().backward()
    assert counts == {}


def test_a_mask_in_the_forward_makes_its_backward_wait_too() -> None:
    weights = VALUES.clone().requires_grad_()
    with synchronizations() as counts:
        weights[MASK].sum().backward()
    assert counts["aten.index"] == 1
    assert sum(counts.values()) == 2
