"""Runs whose teacher sees the same images in every epoch, so that its outputs can be cached."""

from typing import Any

from kd.config.composed import ComposedConfig

_DETERMINISTIC = frozenset(
    {"LoadImageFromFile", "LoadAnnotations", "FitInto", "Resize", "PackDetInputs"}
)
"""Transforms whose output for an image is the same each time."""


def random_transforms(config: ComposedConfig) -> list[str]:
    """Return the transforms of training images whose output differs from epoch to epoch.

    A horizontal flip that follows all other transforms is not among them: its two outputs are
    cached apart.
    """
    pipelines = config.pipelines("train")
    steps = [step for pipeline in pipelines for step in pipeline[:-2]]
    steps += [step for pipeline in pipelines for step in pipeline[-2:] if not _is_last_flip(step)]
    types = [step["type"] for step in steps if step["type"] not in _DETERMINISTIC]
    return list(dict.fromkeys(types))


def forms(config: ComposedConfig) -> int:
    """Return the number of forms of a training image: 2 if it is flipped at random, otherwise 1."""
    pipelines = config.pipelines("train")
    flips = any(step["type"] == "RandomFlip" for steps in pipelines for step in steps)
    return 2 if flips else 1


def is_repeated(config: ComposedConfig) -> bool:
    """Return True if a run has a detector as a teacher that sees the same images in every epoch."""
    return config.teacher is not None and not random_transforms(config)


def _is_last_flip(step: dict[str, Any]) -> bool:
    return step["type"] == "RandomFlip" and step.keys() <= {"type", "prob"}
