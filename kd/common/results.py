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


def require_result(path: Path) -> None:
    """Raise a UserError with the command that writes a file of a run if the file is absent."""
    if not path.exists():
        command = f"kd {COMMANDS.get(path.name, 'train')} {path.parent}"
        raise UserError(f"{path}: no such file; write it with `{command}`")
