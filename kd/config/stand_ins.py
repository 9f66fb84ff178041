"""Stand-ins of a scale: which part trains in place of the one that a study names."""

from difflib import get_close_matches
from typing import Any, Literal

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.parts import Scale

Kind = Literal["datasets", "schedules", "backbones", "classifiers"]
WORDS: dict[str, str] = {
    "datasets": "data set",
    "schedules": "schedule",
    "backbones": "backbone",
    "classifiers": "classifier",
}


def stand_in(kind: Kind, name: str, scale: Scale, scale_name: str, where: str) -> str:
    """Return the part that stands in for ``name`` at a scale.

    A scale without stand-ins of this kind runs every part as it is. UserError where a scale has
    some and none for ``name``, which would run at full size. A stand-in may be named itself.
    """
    swaps: dict[str, str] = getattr(scale, kind)
    if name in swaps:
        return swaps[name]
    if not swaps or name in swaps.values():
        return name
    near, file = _nearest(name, swaps), f"configs/scales/{scale_name}.yaml"
    raise UserError(
        f"{where}: scale '{scale_name}' has no stand-in for {WORDS[kind]} '{name}', which would "
        f"run at full size; under '{kind}' of {file} add '{name}: {swaps[near]}' (the stand-in of "
        f"'{near}'), or '{name}: {name}' to run it as it is"
    )


def check_detector(name: str, scale: Scale, scale_name: str, library: Library, where: str) -> None:
    """Raise UserError where a scale narrows other detectors and says nothing of this one."""
    side, file = library.detector(name, where).input_size, f"configs/scales/{scale_name}.yaml"
    if scale.detectors and name not in scale.detectors:
        near = _nearest(name, scale.detectors)
        raise UserError(
            f"{where}: scale '{scale_name}' has no settings for detector '{name}', which would "
            f"run at full size; under 'detectors' of {file} add some like those of '{near}', or "
            f"'{name}: {{}}' to run it as it is"
        )
    if side and scale.input_sizes and name not in scale.input_sizes:
        near = _nearest(name, scale.input_sizes)
        raise UserError(
            f"{where}: scale '{scale_name}' has no input size for detector '{name}', whose images "
            f"would have {side} pixels; under 'input_sizes' of {file} add "
            f"'{name}: {scale.input_sizes[near]}' (as of '{near}') or '{name}: {side}'"
        )


def _nearest(name: str, swaps: dict[str, Any]) -> str:
    """Return the known name that is spelled most like another."""
    return get_close_matches(name, sorted(swaps), n=1, cutoff=0.0)[0]
