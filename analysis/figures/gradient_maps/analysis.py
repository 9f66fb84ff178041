"""Where in the neck the losses of students pull: on objects, or on background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from analysis.figures.base import Analysis, Results

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.figures.gradient_maps.plot import Picture
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class GradientMaps(Analysis):
    """Gradient maps (Guo et al., CVPR 2021, supplement, figures 2 and 3): at each cell of each
    neck level F of a student, the L2 norm over channels of dL/dF. L is the loss that the run was
    trained with, and each of its terms: mmdet's detection losses together, and those of
    distillation, weighted. What a level hands on to one that is made of it counts for both.

    Of one image at a time, with objects, drawn by seed and not augmented; of the trained networks
    in eval mode, warm-ups of methods being over and decays not begun. The means are over the cells
    of all images that lie on an object, of any size, and over the others, padding included. A
    level without such cells has no mean; a ratio to 0 is undefined. A map of more than 100 cells a
    side is drawn, and stored, as means of blocks of cells. The darkest colour is the largest
    gradient of a level in all runs; everything below a thousandth of it is the lightest.
    """

    title: ClassVar[str] = "Gradients of the losses in the neck"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("gradient_maps", "gradient_maps-means")
    photographs: ClassVar[tuple[str, ...]] = ("gradient_maps",)
    tables: ClassVar[tuple[str, ...]] = ("gradient_maps", "gradient_maps-means")

    images: PositiveInt = 20
    """How many the means are of; fewer where the split has fewer with objects."""
    shown: PositiveInt = 1
    """How many of them, the first drawn, the maps are drawn of."""
    split: Literal["train", "test"] = "train"
    """Where the images are from; the paper's are training images."""
    seed: int = 0
    """Of the draw, and of the RoIs that a second stage samples."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        import pandas as pd

        from analysis.figures.gradient_maps.plot import means, plot_maps, plot_means, total_ratios
        from analysis.runs.groups import check_one_dataset, students_of

        check_one_dataset(groups)
        students = students_of(groups)
        pictures: dict[Any, Picture] = {}
        found = [self._measure(group, pictures) for group in students]
        averages = means(pd.concat([sums for sums, _ in found]))
        drawn = pd.concat([maps for _, maps in found], ignore_index=True)
        looks = {group.label: group.look for group in students}
        return Results(
            {
                "gradient_maps": plot_maps(drawn, pictures),
                "gradient_maps-means": plot_means(averages, looks),
            },
            {"gradient_maps": drawn, "gradient_maps-means": averages},
            total_ratios(averages),
        )

    def _measure(
        self, group: RunGroup, pictures: dict[Any, Picture]
    ) -> tuple[DataFrame, DataFrame]:
        """Return the sums and the maps of a run; add the images of the maps to ``pictures``."""
        import pandas as pd

        from analysis.figures.gradient_maps.compute import gradients
        from analysis.figures.gradient_maps.plot import Picture, maps, sums
        from analysis.figures.networks import Probe, images, shown

        run = Probe.load(group.directory)
        what = f"{group.directory}: images"
        rows, drawn = list["DataFrame"](), list["DataFrame"]()
        for sample in images(group.directory, self.images, self.seed, self.split, what):
            found = gradients(run, sample, self.seed)
            rows.append(sums(group.label, found))
            if len(drawn) < self.shown:
                batch = run.batch(sample)
                name = batch.samples[0].img_id
                pictures[name] = Picture(shown(batch).numpy(), batch.gt_boxes[0].cpu().numpy())
                drawn.append(maps(group.label, name, found))
        return pd.concat(rows), pd.concat(drawn)
