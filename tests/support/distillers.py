"""Configurations of tiny distillers, one of each method."""

from pathlib import Path
from typing import Any

from kd.config.terms import resolve
from tests.config.test_applicability import LIBRARY, ON_ONE, classifier
from tests.support.tiny_detectors import save_random_weights


def distiller_configs(model_config: Any, folder: Path) -> dict[str, dict[str, Any]]:
    """Return a distiller's configuration for each method; random weights lie in ``folder``."""
    configs = {}
    for method, detector in ON_ONE:
        teacher, student = model_config(detector, backbone="r18-w0.25"), model_config(detector)
        if "roi_head" in student:
            # Larger than the number of RoIs, so that none is dropped at random.
            student["train_cfg"]["rcnn"]["sampler"]["num"] = 10_000
        path = folder / detector / "weights.pth"
        if not path.exists():
            save_random_weights(teacher, path.parent)
        terms = resolve(method, {}, detector, LIBRARY, "tests")
        configs[method] = {
            "type": "Distiller",
            "student": student,
            "seed": 0,
            "teacher": teacher,
            "checkpoint": str(path),
            "methods": terms,
            **classifier(terms, folder),
        }
    return configs
