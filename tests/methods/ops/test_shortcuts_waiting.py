"""Number of times that the terms of a step make the host wait for a GPU."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from kd.config.library import Library
from kd.config.terms import method_of, resolve
from kd.observers import channels_of, observe
from tests.support.devices import Waits, on_device
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

CODER = "new_tensor"
"""Call of mmdet's box coder, whose means and deviations are lists; decoding makes two."""
MASK_WAITS = {"cpu": 1, "tolist": 6}
"""Masks of objects: one copy of the boxes to the host, which a GPU is waited for. The levels of the
boxes and the cells on each of the five levels are then read in host memory."""
WAITING: dict[str, dict[str, int]] = {
    "fitnets": {}, "fitnets_object": MASK_WAITS, "fitnets_positive": {}, "pfi": {},
    "defeat": MASK_WAITS, "defeat_backbone": {"cpu": 2, "tolist": 7}, "tadf_neck": {}, "fkd": {},
    "fkd_paper": {}, "fgfi": {}, "gid_truth": {"aten.nonzero": 1, "tolist": 1},
    "soft_labels": {"aten.nonzero": 1}, "rm": {"aten.nonzero": 1, CODER: 4},
    "chen": {"aten.nonzero": 2, CODER: 2}, "gid": {"aten.nonzero": 1, "tolist": 2, CODER: 4},
    "dicod_loc": {"aten.nonzero": 1, "tolist": 1, CODER: 2},
}  # fmt: skip
"""Waits by method. Positive or responding priors, lengths of lists and box levels are read once."""


@pytest.mark.parametrize("name", WAITING)
def test_the_terms_of_a_step_wait_for_the_gpu_as_often_as_listed(
    build: Any, batch: Any, name: str, device: str
) -> None:
    waits = Waits(device)
    compute_terms(build, batch, name, device, waits)
    if device == "cpu":
        assert dict(waits.counts) == WAITING[name]
    else:  # lists of the host, which a machine without a GPU counts too, are not on the GPU
        assert waits.counts <= Counter(WAITING[name])
        assert len(waits.warned) <= waits.counts.total(), waits.warned


def compute_terms(build: Any, batch: Any, name: str, device: str, waits: Waits) -> None:
    """Compute the terms of a method, forward and backward, and count their waits alone."""
    library = Library(CONFIGS)
    methods = [
        method_of(settings) for settings in resolve(name, {}, "retinanet", library, "t").values()
    ]
    detectors = build().to(device), build(seed=1).eval().to(device)
    widths = [channels_of(detector) for detector in detectors]
    layers = [nn.ModuleDict(method.adapters(*widths)).to(device) for method in methods]
    data = on_device(batch(), device)
    object.__setattr__(data, "progress", data.progress._replace(step=10_000))
    student = observe(detectors[0], data, frozen=False)
    student.losses()
    teacher = observe(detectors[1], data, frozen=True)
    with waits.counting():
        for method, adapters in zip(methods, layers, strict=True):
            taught = teacher if method.needs.teacher else None
            losses = method.losses(student, taught, data, adapters).values()
            parts = [
                part
                for term_losses in losses
                for part in (term_losses if isinstance(term_losses, list) else [term_losses])
            ]
            torch.stack(parts).sum().backward(retain_graph=True)
