"""Start of a student from a published detector, whose classes may be others."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kd.common.errors import UserError
from kd.common.fetch import fetch
from kd.config.composed import ComposedConfig
from kd.models import weights
from kd.models.build import build_model

CLASSES = "num_classes"


def start_from_published(model: nn.Module, config: dict[str, Any]) -> str:
    """Load the published weights that a training starts from; return a line on those left out.

    All tensors are loaded, but class layers, if the file has other classes than the data. The
    line is empty if the training starts otherwise. UserError if another tensor is missing, unknown
    or of another shape.
    """
    composed = ComposedConfig(config)
    published = composed.initial_checkpoint
    if published is None:
        return ""
    path = fetch(published["source"], published["sha256"])
    content = weights.read_published(path)
    state = weights.state_in(content, path)
    student = getattr(model, "student", model)
    left_out: list[str] = []
    if weights.class_names(content) != composed.class_names:
        left_out = class_tensors(composed.student)
        _check_names(state, left_out, path)
        initial = student.state_dict()
        state = {**state, **{name: initial[name] for name in left_out}}
    weights.load_state(student, state, path, published.get("without", ()))
    return _line(published.get("zoo") or str(path), len(student.state_dict()), left_out)


def class_tensors(detector: dict[str, Any]) -> list[str]:
    """Return the names of a detector's tensors whose shapes depend on the number of classes."""
    now, more = (_shapes(settings) for settings in (detector, _with_a_class(detector)))
    return [name for name, shape in now.items() if more[name] != shape]


def _check_names(state: dict[str, Tensor], names: list[str], path: Path) -> None:
    """Raise UserError if a file lacks a class layer, whatever its shape."""
    missing = [name for name in names if name not in state]
    if missing:
        raise UserError(f"{path}: does not match the architecture: missing: {', '.join(missing)}")


def _shapes(detector: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in build_model(detector).state_dict().items()}


def _with_a_class(settings: Any) -> Any:
    """Return settings in which each number of classes is one higher."""
    if isinstance(settings, dict):
        return {
            key: value + 1 if key == CLASSES else _with_a_class(value)
            for key, value in settings.items()
        }
    return [_with_a_class(value) for value in settings] if isinstance(settings, list) else settings


def _line(source: str, count: int, left_out: list[str]) -> str:
    loaded = f"training starts from {source}: {count - len(left_out)} of {count} tensors loaded"
    if not left_out:
        return loaded
    return f"{loaded}; left out, because the classes differ: {', '.join(left_out)}"
