"""The folder of all results, and the commands that write the files of a run."""

from pathlib import Path

from kd.common.errors import UserError

RESULTS = Path("results")

COMMANDS = {
    "detections.json.gz": "predict",
    "predictions.json.gz": "predict",
    "metrics.json": "evaluate",
    "resampled.npz": "resample",
}
"""Command of ``kd`` that writes a file of a run; ``train`` writes all others."""


VALIDATION = "val"
"""Name of the validation split, and of the folder of a run with its results on it."""


def results_folder(run: Path, split: str) -> Path:
    """Return the folder with a run's results on a split: ``val`` in it, or itself for ``test``."""
    return run / VALIDATION if split == VALIDATION else run


def step_arguments(folder: Path) -> str:
    """Return the arguments of ``kd predict`` and later steps for a folder of ``results_folder``."""
    if folder.name == VALIDATION:
        return f"{folder.parent} --split {VALIDATION}"
    return str(folder)


def require_result(path: Path) -> None:
    """Raise a UserError with the command that writes a file of a run if the file is absent."""
    if not path.exists():
        command = f"kd {COMMANDS.get(path.name, 'train')} {step_arguments(path.parent)}"
        raise UserError(f"{path}: no such file; write it with `{command}`")
