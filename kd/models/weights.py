"""Checkpoints: written atomically, read with ``weights_only``, loaded only if all keys match."""

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.common.files import replacing
from kd.models.build import build_model
from kd.models.inert import inert_objects

SHOWN_KEYS = 5
"""Keys of each kind that an error message names."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # torch raises it over the OSError of a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_published(path: Path) -> dict[str, Any]:
    """Return the content of a published checkpoint with inert objects in place of Python objects.

    UserError if it cannot be read safely even so.
    """
    with inert_objects(path):
        return read(path)


def read(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU; UserError if it cannot be read safely."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: not a checkpoint of plain tensors: it is damaged or contains Python objects, "
            "which are never loaded; save only its state dict"
        ) from None
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}: not a readable checkpoint ({reason}); it may be truncated; copy it again"
        ) from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: not a checkpoint but a {type(content).__name__}; save a state dict"
        )
    return content


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint, bare or under ``state_dict``."""
    return state_in(read(path), path)


def state_in(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the state dict in the content of a file, bare or under ``state_dict``."""
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not state or not all(map(_is_entry, state.items())):
        raise UserError(f"{path}: contains no state dict of tensors; save one")
    return state


def load_strictly(model: nn.Module, path: Path, without: Sequence[str] = ()) -> None:
    """Load a checkpoint into a model; UserError with the keys that do not match, if any.

    Weights whose names begin with an entry of ``without`` are left out.
    """
    load_state(model, read_state(path), path, without)


def load_state(
    model: nn.Module, state: dict[str, Tensor], path: Path, without: Sequence[str] = ()
) -> None:
    """Load the state dict of a file as ``load_strictly`` does."""
    for prefix in without:
        if not any(key.startswith(prefix) for key in state):
            raise UserError(
                f"{path}: no weights begin with '{prefix}'; correct 'without' of the checkpoint"
            )
    state = {key: value for key, value in state.items() if not key.startswith(tuple(without))}
    own_state = model.state_dict()
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own_state[key].shape)}"
        for key in own_state.keys() & state.keys()
        if state[key].shape != own_state[key].shape
    ]
    problems = {
        "missing": sorted(own_state.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own_state.keys()),
        "of another shape": sorted(shapes),
    }
    if any(problems.values()):
        text = "; ".join(f"{kind}: {_short(keys)}" for kind, keys in problems.items() if keys)
        hint = " (another number of classes?)" if any("_cls" in shape for shape in shapes) else ""
        raise UserError(f"{path}: does not match the architecture{hint}: {text}")
    model.load_state_dict(state)


def class_names(content: dict[str, Any]) -> list[str] | None:
    """Return the class names in a checkpoint in label order; None if it has none.

    mmdet 3 writes them into ``meta.dataset_meta.classes``, earlier versions into ``meta.CLASSES``.
    """
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    data_meta = meta.get("dataset_meta")
    data_meta = data_meta if isinstance(data_meta, dict) else {}
    names = data_meta.get("classes") or data_meta.get("CLASSES") or meta.get("CLASSES")
    names = [names] if isinstance(names, str) else names
    return list(names) if isinstance(names, list | tuple) else None


def check_classes(content: dict[str, Any], path: Path, classes: list[str]) -> None:
    """Compare the class names in a checkpoint, if it has any, with those of the data.

    UserError if names or their order differ, because label i must mean class i in both.
    """
    names = class_names(content)
    if names is None or names == classes:
        return
    differ = "the same classes in another order" if sorted(names) == sorted(classes) else "others"
    index, theirs, ours = next(
        (i, a, b) for i, (a, b) in enumerate(zip_longest(names, classes)) if a != b
    )
    raise UserError(
        f"{path}: was trained on {len(names)} classes, and the data set has {len(classes)}, "
        f"{differ}: label {index} is {theirs!r} in the checkpoint and {ours!r} in the data; "
        "set 'classes' of the data set's entry to those of the checkpoint, or use another "
        "checkpoint"
    )


def load_frozen(config: dict[str, Any], checkpoint: str | Path, without: Sequence[str] = ()) -> Any:
    """Build a detector or classifier, load its checkpoint, freeze it and set it to eval mode.

    Weights whose names begin with an entry of ``without`` are left out.
    """
    path = Path(checkpoint)
    return frozen(config, read_state(path), path, without)


def frozen(
    config: dict[str, Any], state: dict[str, Tensor], path: Path, without: Sequence[str] = ()
) -> Any:
    """Build a model, load the state dict of a file, freeze the model and set it to eval mode."""
    model = build_model(config)
    load_state(model, state, path, without)
    return model.requires_grad_(False).eval()


def detector_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a detector, or of a distiller's student."""
    state = model.state_dict()
    student_state = OrderedDict(
        (key.removeprefix("student."), value)
        for key, value in state.items()
        if key.startswith("student.")
    )
    return student_state or state


def _is_entry(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _short(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return f"{', '.join(keys[:SHOWN_KEYS])}{more}"
