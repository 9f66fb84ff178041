"""The rule by which a run's test pipeline resizes images."""

from dataclasses import dataclass
from typing import Any

from kd.common.errors import UserError


@dataclass(frozen=True)
class ResizeRule:
    """Size of test images in pixels, and how it is reached."""

    width: int
    height: int
    keep_ratio: bool
    """True if an image fits into the size with its aspect ratio; False if it gets the size."""
    pad_value: float | None = None
    """Value, 0 to 255, that fills an image up to the size; None if none is filled up."""

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def is_padded(self) -> bool:
        """True if an image is filled up to the size."""
        return self.pad_value is not None

    @property
    def settings(self) -> dict[str, Any]:
        """The part that the user of an exported network carries out."""
        return {"width": self.width, "height": self.height, "keep_ratio": self.keep_ratio}


def resize_rule(pipeline: list[dict[str, Any]]) -> ResizeRule:
    """Return the rule of a test pipeline; UserError for a transform that no export repeats."""
    width = height = 0
    keep_ratio, pad_value = True, None
    for transform in pipeline:
        match transform["type"]:
            case "LoadImageFromFile" | "PackDetInputs" | "LoadAnnotations":
                pass
            case "FitInto":
                width, height = transform["width"], transform["height"]
            case "Resize":
                (width, height), keep_ratio = transform["scale"], transform["keep_ratio"]
            case "PadInto" if (transform["width"], transform["height"]) == (width, height):
                pad_value = transform["value"]
            case unknown:
                raise UserError(
                    f"config.json: the test pipeline has {unknown}, which no exported form "
                    "repeats; `--forms mmdet` exports the run"
                )
    return ResizeRule(width, height, keep_ratio, pad_value)
