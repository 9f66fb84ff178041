"""Construction of a network from a composed model dict."""

from typing import Any

from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from kd.common.errors import UserError
from kd.config.canonical import MMDET_CLASSES
from kd.observers.heads import REQUIRED, observer_of_types


def build_model(config: dict[str, Any]) -> Any:
    """Build a detector, distiller or classifier.

    A detector gets its ``observer`` as an attribute, and ``declared``: True if the detector's file
    declares the observer. UserError if that observer does not read predictions of its heads.
    """
    settings = dict(config)
    observer = settings.pop("observer", None)
    model = MODELS.build(ConfigDict(settings, _scope_="mmdet"))
    if observer is not None:
        model.observer, model.declared = observer, _check_observer(model, observer)
    return model


def _check_observer(detector: Any, observer: str) -> bool:
    """Return True for a declared observer; UserError if the heads have or need another one."""
    heads = [getattr(detector, name, None) for name in ("rpn_head", "bbox_head", "roi_head")]
    present = [head for head in heads if head is not None]
    names = [type(head).__name__ for head in present]
    dense, *second = [MMDET_CLASSES.get(name, name) for name in names]
    roi = second[0] if second else None
    expected = observer_of_types(dense, roi, observer)
    if observer != expected:
        raise UserError(
            f"config.json: key 'observer' of the model is '{observer}', but the observer of "
            f"{' and '.join(names)} is '{expected}'; compose the run again (`snakemake` does, or "
            "`kd compose STUDY --write`)"
        )
    declared = observer_of_types(dense, roi) == "maps" != observer
    if declared:
        _check_declared(present, observer)
    return declared


def _check_declared(heads: list[Any], observer: str) -> None:
    """Raise UserError if heads that are not listed lack what their declared observer reads."""
    dense, *second = heads
    required = REQUIRED[observer]
    problems = [
        f"{type(head).__name__} is no {base}"
        for head, base in ((dense, required.dense), *((roi, required.roi) for roi in second))
        if base not in {cls.__name__ for cls in type(head).__mro__}
    ]
    if required.roi and not second:
        problems.append(f"the detector has no {required.roi}")
    missing = [name for name in required.attributes if not hasattr(dense, name)]
    problems += [f"{type(dense).__name__} has no {name}" for name in missing]
    if problems:
        raise UserError(
            f"the detector's file declares 'observer: {observer}', but {' and '.join(problems)}; "
            "declare another observer (kd/observers/heads.py lists them) or none"
        )
