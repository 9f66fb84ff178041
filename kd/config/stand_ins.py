"""Stand-ins of a scale: parts that are trained in place of those that a study names."""

from difflib import get_close_matches
from typing import Any, Literal

from kd.common.errors import UserError
from kd.common.merging import merge
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.study_parts import Study

Kind = Literal["datasets", "schedules", "backbones", "classifiers"]
NOUNS: dict[str, str] = {
    "datasets": "data set",
    "schedules": "schedule",
    "backbones": "backbone",
    "classifiers": "classifier",
}


def stand_in(kind: Kind, name: str, scale: Scale, scale_name: str, where: str) -> str:
    """Return the stand-in of a part at a scale.

    A scale without stand-ins of a kind runs all parts of the kind unchanged, and a stand-in is
    its own stand-in. UserError if a scale has stand-ins of the kind, but none for ``name``, which
    would run at full size.
    """
    stand_ins: dict[str, str] = getattr(scale, kind)
    if name in stand_ins:
        return stand_ins[name]
    if not stand_ins or name in stand_ins.values():
        return name
    near, file = _nearest(name, stand_ins), f"configs/scales/{scale_name}.yaml"
    if kind == "datasets":
        raise UserError(
            f"{where}: scale '{scale_name}' has no stand-in for data set '{name}'; choose a "
            f"scale without stand-ins, such as 'laptop', or add '{name}: {name}' under "
            f"'{kind}' of {file} to use the data set at this scale"
        )
    raise UserError(
        f"{where}: scale '{scale_name}' has no stand-in for {NOUNS[kind]} '{name}', which would "
        f"run at full size; under '{kind}' of {file} add '{name}: {stand_ins[near]}' (the stand-in "
        f"of '{near}'), or '{name}: {name}' to run it unchanged"
    )


def adapted(scale: Scale, study: Study, library: Library, where: str) -> Scale:
    """Return a scale with the changes of a study; UserError where they change nothing that exists.

    ``where``: the study's file.
    """
    for name, changes in study.detectors.items():
        key = f"{where}: key 'detectors'"
        part = library.detector(name, key)
        merge(part.model, changes, f"{key}: {name}")
    for name in study.input_sizes:
        key = f"{where}: key 'input_sizes'"
        if library.detector(name, key).input_size is None:
            raise UserError(f"{key}: detector '{name}' has no 'input_size'; delete its line")
    changes = {
        "detectors": merge(scale.detectors, study.detectors),
        "input_sizes": {**scale.input_sizes, **study.input_sizes},
    }
    return scale.model_copy(update=changes)


def check_detector(name: str, scale: Scale, scale_name: str, library: Library, where: str) -> None:
    """Raise UserError if a scale has settings for other detectors, but none for this one."""
    side, file = library.detector(name, where).input_size, f"configs/scales/{scale_name}.yaml"
    if scale.detectors and name not in scale.detectors:
        near = _nearest(name, scale.detectors)
        raise UserError(
            f"{where}: scale '{scale_name}' has no settings for detector '{name}', which would "
            f"run at full size; under 'detectors' of {file} add settings like those of '{near}', "
            f"or '{name}: {{}}' to run it unchanged"
        )
    if side and scale.input_sizes and name not in scale.input_sizes:
        near = _nearest(name, scale.input_sizes)
        raise UserError(
            f"{where}: scale '{scale_name}' has no input size for detector '{name}', whose images "
            f"would have {side} pixels; under 'input_sizes' of {file} add "
            f"'{name}: {scale.input_sizes[near]}' (as of '{near}') or '{name}: {side}'"
        )


def _nearest(name: str, valid: dict[str, Any]) -> str:
    """Return the valid name that is spelled most like ``name``."""
    return get_close_matches(name, sorted(valid), n=1, cutoff=0.0)[0]
