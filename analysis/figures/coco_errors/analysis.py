"""COCO's breakdown of errors, for runs beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from analysis.figures.base import Analysis, Results
from kd.common.errors import UserError, suggest

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library

Area = Literal["all", "small", "medium", "large"]


class CocoErrors(Analysis):
    """Precision over 101 recalls under ever milder rules; what one forgives sizes an error.

    C75 and C50: matched at IoU 0.75 and 0.50. Loc: at IoU 0.10, so that bad localization is
    forgiven, duplicates are not. Sim: and detections on objects of the same supercategory do not
    count. Oth: nor do those on objects of any other class. BG: no false positive at all. FN:
    precision 1 at every recall. Each is named by its AP, the mean of its precisions, in points.
    Localisation is Loc - C50, similar class Sim - Loc, other class Oth - Sim, background BG - Oth,
    missed FN - BG. At most 100 detections of an image and class; areas as in COCO. Numbers over all
    categories are means over those with an object in the range of areas. Without supercategories
    Sim is undefined, and other class is Oth - Loc. Curves of several seeds are averaged.
    As in the COCO toolbox (Hoiem et al. 2012; DeFeat, supplement, Figs. 4 to 9).
    """

    title: ClassVar[str] = "COCO error breakdown"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = (
        "coco_errors",
        "coco_errors-parts",
        "coco_errors-curves",
        "coco_errors-precision",
        "coco_errors-by-category",
    )
    tables: ClassVar[tuple[str, ...]] = ("coco_errors", "coco_errors-curves")

    categories: Annotated[list[str], Field(min_length=1)] | None = None
    """Those drawn, also with their curves; none: all, without curves of their own."""
    areas: Annotated[tuple[Area, ...], Field(min_length=1)] = ("all", "small", "medium", "large")
    """Ranges of areas; the first one's curves and categories are drawn."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the breakdown; UserError where the test split has no such category."""
        from analysis.figures.coco_errors import plot as plots
        from analysis.figures.coco_errors.compute import read
        from analysis.runs.groups import truth_of

        truth = truth_of(groups, library).coco
        names = [category["name"] for category in truth["categories"]]
        for name in self.categories or ():
            if name not in names:
                raise UserError(f"categories: no category '{name}'; {suggest(name, names)}")
        areas = list(dict.fromkeys(self.areas))
        chosen = list(dict.fromkeys(self.categories or ()))
        numbers, curves = read(groups, truth, areas, chosen)
        looks = {group.label: group.look for group in groups}
        return Results(
            {
                "coco_errors": plots.plot(numbers),
                "coco_errors-parts": plots.plot_parts(numbers, looks),
                "coco_errors-curves": plots.plot_curves(curves, areas[0]),
                "coco_errors-precision": plots.plot_precision(curves, areas[0], looks),
                "coco_errors-by-category": plots.plot_categories(
                    numbers, areas[0], looks, chosen or names
                ),
            },
            {"coco_errors": numbers, "coco_errors-curves": curves},
            " ".join(_sentences(numbers, areas[0])),
        )


def _sentences(numbers: DataFrame, area: str) -> Iterator[str]:
    """What is largest, and what has no value."""
    from analysis.figures.coco_errors.compute import OVERALL
    from analysis.figures.coco_errors.plot import defined_parts, means

    overall = means(numbers[numbers["category"] == OVERALL])
    parts = defined_parts(overall)
    for line in overall[(overall["area"] == area) & overall["C50"].notna()].to_dict("records"):
        largest = max(parts, key=lambda part: line[part])
        yield (
            f"{line['run']}: AP50 {line['C50']:.1f}, AP75 {line['C75']:.1f}; "
            f"the largest loss is {largest} ({line[largest]:.1f} points)."
        )
    if "similar class" not in parts:
        yield "The categories have no supercategories, so Sim is undefined."
    single = numbers[(numbers["category"] != OVERALL) & (numbers["objects"] == 0)]
    for where, lines in single.groupby("area", sort=False):
        absent = lines["category"].unique()
        yield f"No object to find in the range of areas '{where}': {', '.join(absent)}."
