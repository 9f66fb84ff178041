"""Teachers of a pair: a detector that is trained, or published weights of one."""

from dataclasses import replace

from kd.common.errors import UserError
from kd.config.compose import imported
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.planning.cells import TableCell
from kd.config.run import Run
from kd.config.study_parts import Checkpoint, Pair
from kd.config.zoo.entries import PublishedDetectors


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


def imported_teacher(
    run: Run, checkpoint: Checkpoint, cell: TableCell, scale: Scale, published: PublishedDetectors
) -> Run:
    """Return a teacher whose weights are imported in place of a training.

    UserError if each seed needs its own teacher, or if the weights do not fit.
    """
    if cell.teacher_seeds == "paired":
        raise UserError(_refusal_of_pairs(cell, checkpoint))
    if checkpoint.zoo is not None:
        where = f"{cell.where}: {_pair(cell)}: key 'checkpoint.zoo'"
        checkpoint = published.checkpoint(checkpoint.zoo, run, where)
    return replace(run, config=imported(run, checkpoint, scale, published.library, cell.where))


def _refusal_of_pairs(cell: TableCell, checkpoint: Checkpoint) -> str:
    weights, remedy = "one published 'checkpoint'", "delete that key to train its teachers"
    if cell.pair.checkpoint is None:
        weights = f"one of mmdet's model zoo, '{checkpoint.zoo}', which option 'teachers' imports"
        remedy = "set 'teachers: trained' to train its teachers"
    return (
        f"{cell.where}: 'teacher_seeds: paired' trains a teacher for each seed, but the "
        f"{_pair(cell)} has {weights}; {remedy}, or set 'teacher_seeds: first'"
    )


def _pair(cell: TableCell) -> str:
    return f"pair of teacher '{cell.pair.teacher}' and student '{cell.pair.student}'"
