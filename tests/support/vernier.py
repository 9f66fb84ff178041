"""Optimal LRP of vernier, the reference of ours.

Its compiled module is loaded alone. The package would import pyarrow, which it needs for tables
alone, and which the locked packages lack: with it, pandas stores strings in another form.
"""

import json
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

PARTS = ("olrp", "olrp_loc", "olrp_fp", "olrp_fn", "tau")


@cache
def core():
    package = find_spec("vernier")
    assert package is not None, "vernier is not installed; install requirements.lock"
    (folder,) = package.submodule_search_locations
    (path,) = Path(folder).glob("_core*.so")
    spec = spec_from_file_location("vernier._core", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def optimal_lrp(truth, detections, iou, scores):
    """Return means (loc, fp and fn after oLRP) and the parts of each class; None if undefined.

    ``scores`` are the thresholds that are tried.
    """
    texts = json.dumps(truth).encode(), json.dumps(detections).encode()
    report = core().optimal_lrp_bbox(*texts, "strict", iou, scores, 100, True)
    means = [report[name] for name in ("olrp", "loc", "fp", "fn")]
    return means, [[entry[name] for name in PARTS] for entry in report["per_class"]]
