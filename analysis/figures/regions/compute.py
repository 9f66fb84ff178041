"""Regions of one training image that the methods of trained runs use, and their tables."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import kd.runtime  # noqa: F401
from analysis.figures.networks import RunNetworks, annotated_dataset, image_of
from analysis.runs.titles import method_name
from kd.common.errors import UserError
from kd.config.composed import ComposedConfig
from kd.config.library import Library
from kd.methods.base import Focus
from kd.observers import observe

CORNERS = ["x1", "y1", "x2", "y2"]
COLUMNS = ["run", "term", "region", "kind", "quantity", "rows", "columns", "count", "nonzero"]
"""Columns of the table of regions before the values of maps."""


@dataclass(frozen=True)
class RegionImage:
    """Training image with the regions that the methods of one run use."""

    pixels: np.ndarray
    """(H, W, 3), 0 to 1, with the padding of the network's input."""
    mean: np.ndarray
    std: np.ndarray
    """(3,): with ``mean`` the normalization of crops, whose channels are RGB."""
    boxes: np.ndarray
    """(G, 4): ground truth, xyxy in pixels."""
    focus: Mapping[str, Focus]
    """Regions by the printed name of the term that uses them."""


def compute_regions(directory: Path, index: int, library: Library) -> RegionImage:
    """Return the regions that the methods of a distilled run use in training image ``index``."""
    run = RunNetworks.load(directory)
    # The pipeline of the test split does not augment, so all runs see the same pixels.
    dataset = annotated_dataset(ComposedConfig.read(directory), "train", directory)
    if index >= len(dataset):
        raise UserError(f"image {index}: the training set has images 0 to {len(dataset) - 1}")
    batch = run.batch(dataset[index])
    assert batch.mean is not None and batch.std is not None
    with torch.no_grad():
        student = observe(run.detector, batch, frozen=True)
        teachers = run.model.observe_teachers(batch)
        student.losses()  # assigns the priors, which some methods use
        focus = {
            method_name(name, library): term.focus(student, teachers[term.needs.teacher], batch)
            for name, term in run.model.terms.items()
        }
    mean, std = batch.mean, batch.std
    if batch.is_bgr:
        mean, std = mean.flip(0), std.flip(0)
        focus = {name: _with_rgb_crops(values) for name, values in focus.items()}
    return RegionImage(
        pixels=image_of(batch).numpy(),
        mean=mean.cpu().numpy(),
        std=std.cpu().numpy(),
        boxes=batch.gt_boxes[0].cpu().numpy(),
        focus=focus,
    )


def _with_rgb_crops(focus: Focus) -> Focus:
    """Return regions whose crops (n, 3, s, s) have their channels in reverse."""
    return replace(focus, crops={name: crops.flip(1) for name, crops in focus.crops.items()})


def compute_tables(images: Mapping[str, RegionImage]) -> dict[str, pd.DataFrame]:
    """Return a line for each region of each run, and a line for each box of each region."""
    regions: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for run, image in images.items():
        for term, focus in image.focus.items():
            keys = {"run": run, "term": term}
            for name, values in focus.maps.items():
                columns = _map_columns(values.float().cpu().numpy(), focus.quantity)
                regions.append(keys | {"region": name} | columns)
            for name, corners in focus.boxes.items():
                regions.append(keys | {"region": name, "kind": "boxes", "count": len(corners)})
                boxes += [
                    keys | {"region": name} | dict(zip(CORNERS, box, strict=True))
                    for box in corners.cpu().tolist()
                ]
            for name, crops in focus.crops.items():
                regions.append(keys | {"region": name, "kind": "crops", "count": len(crops)})
    region_columns = [*COLUMNS, "lowest", "mean", "highest"]
    box_columns = ["run", "term", "region", *CORNERS]
    return {
        "regions": pd.DataFrame(regions, columns=region_columns).convert_dtypes(),
        "regions-boxes": pd.DataFrame(boxes, columns=box_columns),
    }


def _map_columns(values: np.ndarray, quantity: str) -> dict[str, Any]:
    return {
        "kind": "map",
        "quantity": quantity,
        "rows": values.shape[0],
        "columns": values.shape[1],
        "nonzero": int(np.count_nonzero(values)),
        "lowest": values.min(),
        "mean": values.mean(),
        "highest": values.max(),
    }
