"""Start of a student from its teacher's neck and head (the inheriting strategy of FGD)."""

from torch import nn

from kd.common.errors import UserError

BACKBONE = "backbone."
MOST_MODULES = 6
"""Modules that the summary names; it counts the others."""


def inherit(student: nn.Module, teacher: nn.Module) -> str:
    """Copy the teacher's neck and heads into the student; return a line that counts the copies.

    A tensor outside of the backbone, parameter or buffer, is copied if the teacher has one of the
    same name and shape; all others keep the student's initial values. Published code does the same
    with the teacher's checkpoint (yzd-v/FGD c03a6cf and yzd-v/MGD 2c9da0b, ``init_student``).
    UserError if no tensor agrees.
    """
    taught = teacher.state_dict()
    tensors = {name: t for name, t in student.state_dict().items() if not _of_backbone(name)}
    other = {
        name: "of another shape" if name in taught else "absent in the teacher"
        for name, tensor in tensors.items()
        if name not in taught or taught[name].shape != tensor.shape
    }
    if len(other) == len(tensors):
        raise UserError(
            "method setting 'start': inherit copies the teacher's neck and head, but no tensor of "
            "the student has the name and shape of one of the teacher; set 'start: own', or choose "
            "a teacher of the same detector"
        )
    for name, tensor in tensors.items():
        if name not in other:
            tensor.copy_(taught[name])
    copied = f"{len(tensors) - len(other)} of {len(tensors)} tensors copied"
    return f"student starts from the teacher's neck and head: {copied}{_not_copied(other)}"


def _of_backbone(name: str) -> bool:
    return name.startswith(BACKBONE)


def _not_copied(reasons: dict[str, str]) -> str:
    """Return the modules of tensors that were not copied, each with its reason."""
    by_module = {name.rpartition(".")[0]: reason for name, reason in reasons.items()}
    if not by_module:
        return ""
    modules = [*by_module.items()][:MOST_MODULES]
    text = ", ".join(f"{module} ({reason})" for module, reason in modules)
    rest = len(by_module) - len(modules)
    return f"; not copied: {text}" + (f" and {rest} more modules" if rest else "")
