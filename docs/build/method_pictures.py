"""Pictures of the regions of each method: ``python -m docs.build.method_pictures``.

All methods are drawn with the same student, trained alone, and its teacher, so that pictures of one
detector differ only by the method.
"""

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.figures.regions.alt_text import alt_texts
from analysis.figures.regions.compute import compute_regions, compute_tables
from analysis.figures.regions.plot import plot
from analysis.plotting.style import save
from analysis.runs.titles import method_name
from kd.common.errors import UserError
from kd.common.files import write_json
from kd.config.compose import WEIGHTS
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import Run
from kd.config.study_parts import Study

logger = logging.getLogger(__name__)

METHODS = {
    "retinanet": [
        *("soft_labels", "chen", "fitnets", "fgfi", "tadf", "defeat", "fkd", "gid", "rm", "pfi"),
        *("dicod", "pkd", "cwd", "mgd", "frs", "fgd", "crosskd"),
    ],
    "faster_rcnn": ["mimic", "defeat_full"],
    "gfl": ["ld", "bckd"],
}
"""Methods and presets by the detector that they are drawn with."""
SCALE = "smoke"
TABLE: dict[str, Any] = {
    "dataset": "coco2017",
    "schedule": "1x",
    "pairs": [{"teacher": "r50", "student": "r18"}],
    "classifiers": {"general": "r50"},
}
"""Parts of all runs; the scale replaces them by small ones."""
IMAGE = 0
"""Index of the training image."""
PICTURES = Path("docs/figures/methods")
DOTS_PER_INCH = 200


class _Methods(Library):
    """The parts in ``configs``, and a study with a run of each method."""

    def study(self, name: str, where: str) -> Study:
        tables = {
            detector: TABLE | {"title": detector, "detectors": [detector], "methods": methods}
            for detector, methods in METHODS.items()
        }
        return Study.parse({"title": name, "source": "none", "tables": tables}, where)


def main() -> None:
    """Draw every method; UserError if the networks are not trained yet."""
    library = _Methods()
    methods_plan = plan("methods", SCALE, library)
    _check_trained(methods_plan)
    for row in methods_plan.rows:
        if row.kind == "distilled":
            for path in _draw(row.method, row.runs[0], row.baselines[0], library):
                logger.info("%s", path)


def _check_trained(methods_plan: Plan) -> None:
    """Raise a UserError that names the networks without weights, and how to train them."""
    needed = [*methods_plan.classifiers.values()]
    directories = [run.directory for run in needed]
    directories += [run.directory for run in methods_plan.runs.values() if not run.method]
    missing = [folder for folder in directories if not (folder / WEIGHTS).exists()]
    if missing:
        commands = "\n".join(f"  snakemake {folder / WEIGHTS}" for folder in missing)
        raise UserError(f"networks of the pictures are not trained; train them:\n{commands}")


def _draw(method: str, run: Run, baseline: Run, library: Library) -> list[Path]:
    """Write the picture of a method, with the weights of the student that was trained alone."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "run.json", run.identity)
        write_json(folder / "config.json", run.config)
        shutil.copyfile(baseline.directory / WEIGHTS, folder / WEIGHTS)
        image = compute_regions(folder, IMAGE, library)
    images = {method_name(method, library): image}
    text = alt_texts(compute_tables(images))["regions"]
    return save(plot(images), PICTURES / method, ("png",), DOTS_PER_INCH, text)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    main()
