"""Printed names of methods, backbones and teachers."""

from kd import methods
from kd.config.library import Library
from kd.config.plan import Row

ROLES = {"teacher": "Teacher", "baseline": "Student"}
"""Printed names of rows without a method."""


def method_name(method: str, library: Library) -> str:
    """Return the printed name of a method, or the names of all terms of a sum."""
    return " + ".join(_term(term, library) for term in method.split("+"))


def _term(term: str, library: Library) -> str:
    """Return the name of a method, or of a preset: its method's and the part that it adds."""
    preset = library.presets.get(term)
    if preset is None:
        return methods.get(term).title if term in methods.names() else term
    added = term.removeprefix(preset.method).strip("_").replace("_", " ")
    return f"{methods.get(preset.method).title} ({added})"


def backbone_name(name: str, library: Library) -> str:
    """Return the printed name of a backbone, with its width unless that is 1."""
    if not name:
        return ""
    part, width = library.backbone(name, "table")
    return part.title if width == 1 else f"{part.title} x{width:g}"


def teacher_name(row: Row, library: Library) -> str:
    """Return the printed names of a row's teachers: a detector's backbone, a classifier."""
    names = [backbone_name(row.teacher_backbone, library)] if row.teacher_backbone else []
    if row.classifier:
        names.append(f"classifier {library.classifier(row.classifier, 'table').title}")
    return " + ".join(names)
