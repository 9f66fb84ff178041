"""Construction of a network from a composed model dict."""

from typing import Any

from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from kd.common.errors import UserError
from kd.config.canonical import MMDET_CLASSES
from kd.observers.heads import observer_of_types


def build_model(config: dict[str, Any]) -> Any:
    """Build a detector, distiller or classifier; a detector gets its observer as an attribute.

    UserError if the observer does not read predictions of the detector's heads.
    """
    settings = dict(config)
    observer = settings.pop("observer", None)
    model = MODELS.build(ConfigDict(settings, _scope_="mmdet"))
    if observer is not None:
        _check_observer(model, observer)
        model.observer = observer
    return model


def _check_observer(detector: Any, observer: str) -> None:
    heads = [getattr(detector, name, None) for name in ("rpn_head", "bbox_head", "roi_head")]
    names = [type(head).__name__ for head in heads if head is not None]
    expected = observer_of_types(*(MMDET_CLASSES.get(name, name) for name in names))
    if observer != expected:
        raise UserError(
            f"config.json: key 'observer' of the model is '{observer}', but the observer of "
            f"{' and '.join(names)} is '{expected}'; compose the run again (`snakemake` does, or "
            "`kd compose STUDY --write`)"
        )
