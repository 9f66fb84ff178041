"""Printed names of methods, backbones, teachers, tables and scales."""

import re

from kd import methods
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.plan import Plan, Row
from kd.config.run import AnyRun
from kd.config.study_parts import Table

ROLES = {"teacher": "Teacher", "baseline": "Student", "control": "Student, equal time"}
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


LOSS_PARTS = {
    "cls": "classification",
    "bbox": "boxes",
    "reg": "boxes",
    "loc": "localization",
    "kd_loc": "localization of the teacher",
    "dfl": "box distributions",
    "centerness": "centerness",
    "obj": "objectness",
    "conf": "objectness",
    "xy": "box centers",
    "wh": "box sizes",
    "neck": "neck maps",
    "rois": "RoIs",
    "nonlocal": "non-local relations",
}
"""Printed names of the parts of loss terms; ``rpn`` before them is printed as RPN."""


def loss_name(term: str) -> str:
    """Return the printed name of a loss term: ``rpn_cls`` of detection, ``rm_cls`` of a method."""
    owners = [name for name in methods.names() if f"{term}_".startswith(f"{name}_")]
    if not owners:
        name = _part_name(term)
        return name[:1].upper() + name[1:]
    method = max(owners, key=len)
    part = term.removeprefix(method).removeprefix("_")
    title = methods.get(method).title
    return f"{title}: {_part_name(part)}" if part else title


def _part_name(part: str) -> str:
    first, _, rest = part.partition("_")
    if first == "rpn" and rest:
        return f"RPN {_part_name(rest)}"
    return LOSS_PARTS.get(part, part.replace("_", " "))


def backbone_name(name: str, library: Library) -> str:
    """Return the printed name of a backbone, with its width unless that is 1."""
    if not name:
        return ""
    part, width = library.backbone(name, "table")
    return part.title if width == 1 else f"{part.title} x{width:g}"


def teacher_name(row: Row, library: Library, scale: Scale | None = None) -> str:
    """Return the printed names of a row's teachers: a detector's backbone, a classifier.

    The detector comes first if it is not the row's. They are the names in the study; with a scale,
    those of the networks that it trains instead.
    """
    backbones = scale.backbones if scale else {}
    classifiers = scale.classifiers if scale else {}
    names = []
    if backbone := row.teacher_backbone:
        run = next(iter(row.runs.values()))
        detector = (run.teacher or run).detector
        title = backbone_name(backbones.get(backbone, backbone), library)
        is_other = detector != row.detector
        names.append(f"{library.detector(detector, 'table').title} {title}" if is_other else title)
    if row.classifier:
        classifier = classifiers.get(row.classifier, row.classifier)
        names.append(f"classifier {library.classifier(classifier, 'table').title}")
    return " + ".join(names)


def table_title(table: Table) -> str:
    """Return the title of a table, after its number in the paper if it has one."""
    number = re.fullmatch(r"T(\d+[a-z]?)(?:\(.*\))?", table.published or "")
    return f"Table {number[1]} \u00b7 {table.title}" if number else table.title


def scale_title(plan: Plan, scale: str) -> str:
    """Return a scale by name and title, and the data sets that its runs use."""
    runs: list[AnyRun] = [*plan.classifiers.values(), *plan.runs.values()]
    data = ", ".join(dict.fromkeys(run.dataset for run in runs))
    return f"scale {scale} ({plan.scale.title}), data {data}"
