"""Which runs show a teacher the same images again, so that what it makes of them can be kept."""

from typing import Any

from kd.common import nested

_REPEATED = frozenset(
    {"LoadImageFromFile", "LoadAnnotations", "FitInto", "Resize", "PackDetInputs"}
)
"""Transforms that make the same of an image each time."""


def pipelines(config: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the transforms of each data set that a composed configuration trains on."""
    return nested.pipelines(config["train_dataloader"]["dataset"])


def random_transforms(config: dict[str, Any]) -> list[str]:
    """Return the transforms that make something else of an image each time.

    A flip is none of them if it is horizontal and comes after everything else.
    """
    steps = [step for each in pipelines(config) for step in each[:-2]]
    steps += [step for each in pipelines(config) for step in each[-2:] if not _is_last_flip(step)]
    return list(dict.fromkeys(step["type"] for step in steps if step["type"] not in _REPEATED))


def forms(config: dict[str, Any]) -> int:
    """Return in how many forms an image is shown: flipped and not, or as it is."""
    flips = any(step["type"] == "RandomFlip" for steps in pipelines(config) for step in steps)
    return 2 if flips else 1


def is_repeated(config: dict[str, Any]) -> bool:
    """Return whether a run has a detector as a teacher that sees the same images again."""
    return "checkpoint" in config["model"] and not random_transforms(config)


def _is_last_flip(step: dict[str, Any]) -> bool:
    return step["type"] == "RandomFlip" and step.keys() <= {"type", "prob"}
