"""Golden data: losses of published code on small tensors, recorded by running that code elsewhere.

A file ``golden/<preset>.npz`` holds the cases of one published loss. Keys:

- ``source``: "<repository>@<commit> <file>", and in ``note`` how the code was run;
- ``<case>/input/<name>``: a tensor given to both sides; floating-point ones are float64;
- ``<case>/value/<term>``: the published value of a term;
- ``<case>/gradient/<name>``: the gradient of the sum of all terms by the input of that name.

``PORTS`` of the modules ``published_*`` compute the same terms with this project's code.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
Port = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""Function from the inputs of a case to this project's terms, by their published names."""


@dataclass(frozen=True)
class Case:
    """Inputs with the terms and gradients that the published code computes."""

    name: str
    inputs: dict[str, Tensor]
    values: dict[str, Tensor]
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Golden:
    """Recorded cases of one published loss."""

    source: str
    note: str
    cases: list[Case]


def read(preset: str) -> Golden:
    """Read ``golden/<preset>.npz``."""
    parts: dict[str, dict[str, dict[str, Tensor]]] = {}
    with np.load(FOLDER / f"{preset}.npz", allow_pickle=False) as archive:
        source, note = str(archive["source"]), str(archive["note"])
        for key in archive.files:
            if key.count("/") == 2:
                case, kind, name = key.split("/")
                by_kind = parts.setdefault(case, {"input": {}, "value": {}, "gradient": {}})
                by_kind[kind][name] = torch.from_numpy(archive[key])
    cases = [
        Case(name, tensors["input"], tensors["value"], tensors["gradient"])
        for name, tensors in parts.items()
    ]
    return Golden(source, note, cases)


def relative_differences(case: Case, port: Port) -> tuple[float, float]:
    """Return the largest relative difference of a term and of a gradient; NaN if one is NaN.

    Relative to the largest published value of that term or gradient; absolute where it is zero.
    """
    inputs = {
        name: value.clone().requires_grad_(name in case.gradients)
        for name, value in case.inputs.items()
    }
    terms = port(inputs)
    assert terms.keys() == case.values.keys()
    value = largest([_relative(terms[name].detach(), case.values[name]) for name in terms])
    total = torch.stack([term.sum() for term in terms.values()]).sum()
    names = list(case.gradients)
    gradients = (
        torch.autograd.grad(total, [inputs[name] for name in names], allow_unused=True)
        if total.requires_grad
        else [None] * len(names)
    )
    differences = [
        _relative(
            torch.zeros_like(inputs[name]) if gradient is None else gradient, case.gradients[name]
        )
        for name, gradient in zip(names, gradients, strict=True)
    ]
    return value, largest(differences)


def largest(numbers: Iterable[float]) -> float:
    """Return the largest of some numbers, 0 without any, NaN if one is NaN."""
    return torch.tensor([0.0, *numbers], dtype=torch.float64).max().item()


def _relative(ours: Tensor, published: Tensor) -> float:
    assert ours.shape == published.shape
    if not published.numel():
        return 0.0
    scale = published.abs().max().item()
    return (ours - published).abs().max().item() / (scale or 1.0)
