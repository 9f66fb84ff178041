"""Epochs in which a method's term is computed: checks, and their place in a stand-in schedule."""

from collections.abc import Mapping
from typing import Any

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.parts import Schedule
from kd.config.terms import Terms, method_of

KEYS = ("from_epoch", "until_epoch")


def with_scaled_epochs(
    terms: Terms,
    overrides: Mapping[str, Mapping[str, Any]],
    schedules: tuple[str, str],
    library: Library,
    where: str,
) -> Terms:
    """Return terms whose epochs are those of the schedule that is trained.

    ``schedules``: name of the schedule that a table names, which the settings refer to, and of the
    one that is trained. ``overrides``: the table's settings by term. As milestones do, epochs keep
    their share of the training, rounded down. A term that would end before it begins has one epoch.
    UserError if a term would begin or end after the training.
    """
    nominal, trained = (library.schedule(name, where) for name in schedules)
    scaled = {}
    for term, settings in terms.items():
        limits = {key: settings[key] for key in KEYS if key in settings}
        for key, epoch in limits.items():
            largest = nominal.epochs - (key == "from_epoch")
            if epoch > largest:
                place = _place(term, key, overrides, library, where)
                raise UserError(
                    f"{place}: key '{key}' is {epoch}, but schedule '{schedules[0]}' has "
                    f"{nominal.epochs} epochs; use at most {largest}, or remove the key"
                )
        scaled[term] = {**settings, **_scaled(limits, nominal, trained)}
    return scaled


def _place(
    term: str,
    key: str,
    overrides: Mapping[str, Mapping[str, Any]],
    library: Library,
    where: str,
) -> str:
    """Return the file and the block that set a key of a term: a table, or the term's preset."""
    preset = library.presets.get(term)
    if preset and key in preset.settings and key not in overrides.get(term, {}):
        return f"{preset.file}: preset '{term}': settings"
    return f"{where}: settings of '{term}'"


def _scaled(limits: Mapping[str, int], nominal: Schedule, trained: Schedule) -> dict[str, int]:
    if nominal.epochs == trained.epochs:
        return {}
    scaled = {key: epoch * trained.epochs // nominal.epochs for key, epoch in limits.items()}
    if "until_epoch" in scaled:
        scaled["until_epoch"] = max(scaled["until_epoch"], scaled.get("from_epoch", 0) + 1)
    return scaled


def active_share(run_terms: Terms, teacher: str, epochs: int) -> float:
    """Return the share of epochs, 0 to 1, in which a kind of teacher runs.

    ``epochs``: the number of epochs that are trained.
    """
    limits = []
    for settings in run_terms.values():
        method = method_of(settings)
        if method.needs.teacher == teacher:
            last = epochs if method.until_epoch is None else min(method.until_epoch, epochs)
            limits.append(range(method.from_epoch or 0, last))
    return len(set().union(*limits)) / epochs
