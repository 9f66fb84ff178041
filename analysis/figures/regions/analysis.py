"""Settings, definition and caption of the regions that methods distill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeInt

from analysis.figures.base import Analysis, Results

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class Regions(Analysis):
    """The cells, boxes and crops of one training image that a method uses in its losses.

    Each method defines them with its own formula, evaluated with the trained networks in eval mode
    on the resized image without augmentation. The run of the lowest seed represents a row. Runs
    without a method have no regions and are left out.

    Maps cover the padded image, and each cell of a map covers its pixels. All maps of a method
    share one color scale. Boxes and crops are those of the loss, the first 60 boxes and the first
    16 crops of each kind; the CSV files count and list all of them.
    """

    title: ClassVar[str] = "Regions that methods distill"
    question: ClassVar[str] = "Which parts of an image does each method distill?"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("regions",)
    photographs: ClassVar[tuple[str, ...]] = ("regions",)
    tables: ClassVar[tuple[str, ...]] = ("regions", "regions-boxes")

    image: NonNegativeInt = 0
    """Index of the image in the training split."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the regions; UserError if no run has a method, or the image does not exist."""
        from analysis.runs.groups import check_one_dataset
        from kd.common.errors import UserError

        check_one_dataset(groups)
        distilled = {group.label: group for group in groups if group.method}
        if not distilled:
            raise UserError("none of the runs was trained with a method, so none uses regions")
        from analysis.figures.regions.alt_text import alt_texts
        from analysis.figures.regions.compute import compute_regions, compute_tables
        from analysis.figures.regions.plot import plot_figures

        images = {
            label: compute_regions(group.directory, self.image, library)
            for label, group in distilled.items()
        }
        tables = compute_tables(images)
        text = caption(tables, self.image)
        return Results(plot_figures(images), tables, text, alt_texts(tables))


def caption(tables: dict[str, DataFrame], image: int) -> str:
    """Return the image, and the number of boxes of each method that uses boxes."""
    frame = tables["regions"]
    counts = [
        f"{line['run']} {line['count']} ({line['region']})"
        for line in frame[frame["kind"] == "boxes"].to_dict("records")
    ]
    return f"Training image {image}." + (
        f" Number of boxes: {'; '.join(counts)}." if counts else ""
    )
