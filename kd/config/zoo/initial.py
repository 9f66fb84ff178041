"""Initial weights of a training: those of a backbone, or of a published detector."""

from typing import Any

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.parts import Scale, ZooWeights
from kd.config.run import Run
from kd.config.zoo.entries import PublishedDetectors

DETECTOR = "detector"
"""Initial weights of a backbone that come with those of its detector."""
Settings = dict[str, Any]


def initial_weights(
    run: Run,
    init: str | ZooWeights,
    terms: Settings,
    scale: Scale,
    library: Library,
    where: str,
) -> tuple[str, Settings]:
    """Return the initial weights of the backbone, and the settings of those of the detector.

    UserError if the published detector has another architecture than the run's.
    """
    if not isinstance(init, ZooWeights):
        return init, {}
    place = f"{where}: schedule '{run.schedule}': key 'init.zoo'"
    detectors = PublishedDetectors(library)
    detectors.check_architecture(init.zoo, run, place)
    if not scale.checkpoints or scale.detectors.get(run.detector):
        raise UserError(
            f"{place}: no published weights fit detector '{run.detector}' at scale '{run.scale}', "
            "which changes it; use 'init: imagenet' or 'init: scratch' at this scale"
        )
    inheriting = [name for name, settings in terms.items() if settings.get("start") == "inherit"]
    if inheriting:
        raise UserError(
            f"{place}: the student starts from a published detector, but method '{inheriting[0]}' "
            "with 'start: inherit' copies the teacher's neck and head over it; use one of both"
        )
    weights = detectors.weights(init.zoo).model_dump(exclude_defaults=True)
    return DETECTOR, {"initial_checkpoint": weights}
