"""Names of the forms of an exported detector."""

from collections.abc import Sequence
from typing import Literal, cast, get_args

from kd.common.errors import UserError, suggest

Form = Literal["mmdet", "onnx", "torchscript"]
FORMS: tuple[Form, ...] = get_args(Form)


def check_forms(names: Sequence[str]) -> list[Form]:
    """Return names of forms; UserError for an unknown one."""
    for name in names:
        if name not in FORMS:
            raise UserError(f"--forms {name}: no such form; {suggest(name, FORMS)}")
    return cast(list[Form], list(names))
