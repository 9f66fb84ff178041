"""Teachers of a pair: a detector that is trained, or published weights of one."""

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.study_parts import Checkpoint, Pair


def teacher_of(
    pair: Pair, detector: str, scale: Scale, library: Library, where: str
) -> tuple[str, Checkpoint | None]:
    """Return the detector that teaches at a scale, and the published weights that it has, if any.

    A detector that only teaches is replaced by its ``trained_as`` at scales that import no weights.
    UserError if it has no weights at others.
    """
    name = pair.teacher_detector or detector
    checkpoint = pair.checkpoint if scale.checkpoints else None
    trained_as = library.detector(name, where).trained_as
    if trained_as is None or checkpoint is not None:
        return name, checkpoint
    if scale.checkpoints:
        raise UserError(
            f"{where}: detector '{name}' is not trained here, it teaches with published weights; "
            f"add 'checkpoint' to the pair of teacher '{pair.teacher}' and student '{pair.student}'"
        )
    return trained_as, None


def check_student(detector: str, library: Library, where: str) -> None:
    """Raise UserError if a detector only teaches."""
    if library.detector(detector, f"{where}: key 'detectors'").trained_as is not None:
        raise UserError(
            f"{where}: key 'detectors': '{detector}' only teaches; name it as 'teacher_detector' "
            "of a pair"
        )
