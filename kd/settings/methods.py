"""From a method's name in a study (``rm+pfi``) to checked settings of each of its terms."""

from typing import Any

from kd import methods
from kd.errors import UserError, suggest
from kd.observation import OBSERVABLE
from kd.settings.library import Library
from kd.settings.parts import Detector


def resolve(
    name: str, overrides: dict[str, dict[str, Any]], library: Library, where: str
) -> dict[str, dict[str, Any]]:
    """Return ``{term: {"method": ..., settings...}}`` for a name such as ``rm+pfi``."""
    terms = name.split("+")
    if len(set(terms)) != len(terms):
        raise UserError(f"{where}: method '{name}' names a term twice")
    settings = {term: _settings(term, overrides.get(term, {}), library, where) for term in terms}
    used = [each["method"] for each in settings.values()]
    if len(set(used)) != len(used):
        twice = max(used, key=used.count)
        raise UserError(f"{where}: method '{name}' uses '{twice}' twice, under two names")
    return settings


def check_overrides(overrides: dict[str, Any], names: list[str], where: str) -> None:
    """Refuse settings for a method that no row uses."""
    used = {term for name in names for term in name.split("+")}
    for term in overrides:
        if term not in used:
            raise UserError(
                f"{where}: settings for '{term}', which no row uses; {suggest(term, used)}"
            )


def check_readable(
    terms: dict[str, dict[str, Any]], detector: Detector, name: str, where: str
) -> None:
    """Refuse a detector that does not offer what a method reads."""
    if detector.observer not in OBSERVABLE:
        raise UserError(
            f"configs/detectors/{name}.yaml: key 'observer': no observer '{detector.observer}'; "
            f"{suggest(detector.observer, OBSERVABLE)}"
        )
    for term, settings in terms.items():
        lacking = methods.get(settings["method"]).reads - OBSERVABLE[detector.observer]
        if lacking:
            raise UserError(
                f"{where}: method '{term}' reads {', '.join(sorted(lacking))}, "
                f"which detector '{name}' does not offer"
            )


def _settings(term: str, overrides: dict[str, Any], library: Library, where: str) -> dict[str, Any]:
    preset = library.preset(term)
    if preset:
        name, file = preset.method, f"{library.root}/methods/{term}.yaml"
        if name not in methods.names():
            raise UserError(f"{file}: no method '{name}'; {suggest(name, methods.names())}")
        methods.get(name).parse(preset.settings, f"{file}: settings")
        overrides = {**preset.settings, **overrides}
    elif term in methods.names():
        name = term
    else:
        valid = {*methods.names(), *library.names("methods")}
        raise UserError(f"{where}: no method '{term}'; {suggest(term, valid)}")
    settings = methods.get(name).parse(overrides, f"{where}: settings of '{term}'")
    return {"method": name, **settings.model_dump(mode="json")}
