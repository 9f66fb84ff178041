"""Schedules that are changed without a file, such as ``1x-lr0.005-epochs6``.

The name has all changes, so ``Library.schedule`` reads a changed schedule by its name alone.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kd.common.errors import UserError
from kd.common.schema import parse_assignments
from kd.config.parts import Schedule

EXAMPLE = "lr=0.005,epochs=6"
KEYS = ("lr", *(key for key in Schedule.model_fields if key not in ("base", "lr")))
"""Keys that can be changed, in their order in a name."""
NEXT = re.compile(r"[,\s]+(?=\w+\s*=)")
"""Separator of two changes; a comma within a list of milestones is none."""
SEGMENT = re.compile(rf"-({'|'.join(sorted(KEYS, key=len, reverse=True))})([\w.+]*)")
STAGES = ("cosine_from", "constant_epochs", "unmixed_epochs")
"""Keys with epochs that keep their share of the training, as milestones do."""
NONE = "none"
"""Text in a name for null and for an empty list."""


def parse_changes(text: str) -> dict[str, Any]:
    """Return the changes in a text such as ``lr=0.005,epochs=6`` by key, not yet validated."""
    assignments = [part for part in NEXT.split(text.strip(" ,")) if part]
    for part in assignments:
        if "=" not in part:
            raise UserError(
                f"schedule '{text}': '{part}' is not KEY=VALUE; give changes of the study's "
                f"schedules such as {EXAMPLE}"
            )
    changes = parse_assignments([part.replace(" ", "") for part in assignments])
    if not changes:
        raise UserError(f"schedule '{text}': give changes such as {EXAMPLE}")
    if "base" in changes:
        raise UserError(
            f"schedule '{text}': 'base' is a key of files alone; write a file in configs/schedules "
            "(see docs/how-to/change-schedule.md)"
        )
    return {key: _value(key, value) for key, value in changes.items()}


def _value(key: str, value: Any) -> Any:
    """Return a value with ``none`` read as null, and milestones such as ``4,5`` read as a list."""
    if value == NONE:
        value = None
    if key != "milestones" or isinstance(value, list):
        return value
    return [] if value is None else str(value).split(",")


def changed(schedule: Schedule, changes: Mapping[str, Any], where: str) -> Schedule:
    """Return a schedule with changes; UserError names ``where`` if they are invalid.

    With other epochs, milestones that are not given keep their share of the training, rounded down
    to whole epochs: [8, 11] of 12 become [4, 5] of 6 and [16, 22] of 24. The stages of a training
    keep theirs, too; the last ones have at least one epoch.
    """
    settings = schedule.model_dump(exclude={"base"})
    scaled = _scaled(schedule, changes, where) if "epochs" in changes else {}
    return Schedule.parse({**settings, **scaled, **changes}, where)


def _scaled(schedule: Schedule, changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the milestones and stages of a schedule with other epochs, without those given."""
    unset: dict[str, Any] = {"milestones": [], "stop_epoch": None, **dict.fromkeys(STAGES)}
    length = {**schedule.model_dump(exclude={"base"}), **unset, "epochs": changes["epochs"]}
    epochs = Schedule.parse(length, where).epochs
    milestones = [epoch * epochs // schedule.epochs for epoch in schedule.milestones]
    scaled: dict[str, Any] = {"milestones": [epoch for epoch in dict.fromkeys(milestones) if epoch]}
    for key in STAGES:
        if value := getattr(schedule, key):
            scaled[key] = max(value * epochs // schedule.epochs, 1)
    return scaled


def changed_name(name: str, schedule: Schedule, changes: Mapping[str, Any], where: str) -> str:
    """Return the name of a schedule with changes; changes to its own values are not part of it."""
    settings = changed(schedule, changes, where)
    segments = [
        f"-{key}{_in_name(getattr(settings, key))}"
        for key in KEYS
        if key in changes and getattr(settings, key) != getattr(schedule, key)
    ]
    return name + "".join(segments)


def split_name(name: str, valid: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """Return the schedule that a name begins with, and its changes; none if it is a valid name."""
    names = set(valid)
    for length in range(len(name), 0, -1):
        base, rest = name[:length], name[length:]
        if base in names and not SEGMENT.sub("", rest):
            return base, {key: _from_name(key, text) for key, text in SEGMENT.findall(rest)}
    return name, {}


def describe_changes(schedule: Schedule, settings: Schedule) -> str:
    """Return what differs between two schedules, such as ``lr 0.005 for 0.02, epochs 6 for 12``."""
    return ", ".join(
        f"{key} {_in_words(getattr(settings, key))} for {_in_words(getattr(schedule, key))}"
        for key in KEYS
        if getattr(settings, key) != getattr(schedule, key)
    )


def _in_name(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value)) or NONE
    return NONE if value is None else _in_words(value)


def _from_name(key: str, text: str) -> Any:
    if key == "milestones":
        return [] if text == NONE else text.split("+")
    return None if text == NONE else text


def _in_words(value: Any) -> str:
    """Return a value as text; a number has no exponent, whose sign a name could not hold."""
    if isinstance(value, list):
        return " and ".join(map(str, value)) or NONE
    if isinstance(value, float):
        return f"{Decimal(repr(value)).normalize():f}"
    return NONE if value is None else str(value)
