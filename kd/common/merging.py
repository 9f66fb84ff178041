"""Merging of nested settings."""

from typing import Any

from kd.common.errors import UserError, suggest


def merge(base: dict[str, Any], changes: dict[str, Any], place: str = "") -> dict[str, Any]:
    """Return ``base`` with ``changes`` merged in, dict by dict.

    A dict that changes a list of dicts changes each of them. With ``place``, the file and key of
    the changes, UserError if a changed key does not exist in ``base``.
    """
    merged = dict(base)
    for key, value in changes.items():
        if place and key not in base:
            raise UserError(f"{place}: no setting '{key}' to change; {suggest(key, base)}")
        inner_place = place and f"{place}.{key}"
        old: Any = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = merge(old, value, inner_place)
        elif isinstance(value, dict) and _is_list_of_dicts(old):
            merged[key] = [merge(item, value, inner_place) for item in old]
        else:
            merged[key] = value
    return merged


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
