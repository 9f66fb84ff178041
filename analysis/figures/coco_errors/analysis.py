"""Settings, definition and caption of COCO's error breakdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from analysis.figures.base import Analysis, Results, looks_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library

Area = Literal["all", "small", "medium", "large"]


class CocoErrors(Analysis):
    """Precision-recall curves under seven rules, each more tolerant than the one before it.

    The AP of a curve is the mean of its precisions at 101 recalls, in points. The difference
    between the AP of two curves is the cost of one error.

    - C75: a detection is correct at an IoU of 0.75 or more. The AP of this curve is AP75.
    - C50: at an IoU of 0.50 or more. The AP is AP50.
    - Loc: at an IoU of 0.10 or more. Bad localization is tolerated, duplicates are not.
    - Sim: detections on objects of another class of the same supercategory are ignored.
    - Oth: detections on objects of any other class are ignored.
    - BG: all false positives are ignored.
    - FN: the precision is 1 at every recall, so its AP is 100.

    Localization is Loc - C50, similar class Sim - Loc, other class Oth - Sim, background BG - Oth,
    and missed FN - BG. At most 100 detections of an image and class count, and areas are COCO's.
    Numbers over all categories are means over the categories with an object in the range of areas.
    Without supercategories Sim is undefined, and other class is Oth - Loc. Numbers and curves of
    several seeds are averaged. The rules are those of the COCO toolbox (Hoiem et al. 2012; DeFeat,
    supplement, Figs. 4 to 9).
    """

    title: ClassVar[str] = "COCO error breakdown"
    question: ClassVar[str] = "Which errors cost precision, by category and by object size?"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = (
        "coco_errors",
        "coco_errors-parts",
        "coco_errors-curves",
        "coco_errors-areas",
        "coco_errors-precision",
        "coco_errors-by-category",
    )
    tables: ClassVar[tuple[str, ...]] = ("coco_errors", "coco_errors-curves")

    categories: Annotated[list[str], Field(min_length=1)] | None = None
    """Categories to draw, each with its curves; none: all, without curves of single categories."""
    stand_in: PositiveInt | None = None
    """Rank, by the number of objects in the test split, of the category that is drawn for one that
    the data lack. With it a figure of COCO's categories can be drawn of other data; without it such
    a category is an error."""
    areas: Annotated[tuple[Area, ...], Field(min_length=1)] = ("all", "small", "medium", "large")
    """Ranges of areas; curves and categories are drawn for the first one."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the breakdown; UserError if the test split lacks one of the categories."""
        from analysis.figures.coco_errors.alt_text import alt_texts
        from analysis.figures.coco_errors.compute import compute_tables, drawn_categories
        from analysis.figures.coco_errors.plot import plot_figures
        from analysis.runs.groups import truth_of

        truth = truth_of(groups, library).coco
        names = [category["name"] for category in truth["categories"]]
        stand_ins = drawn_categories(self.categories or (), truth, self.stand_in)
        areas = list(dict.fromkeys(self.areas))
        categories = list(dict.fromkeys(stand_ins.values()))
        tables = compute_tables(groups, truth, areas, categories)
        pictures = plot_figures(tables, looks_of(groups), areas[0], categories or names)
        text = " ".join([*_stand_ins(stand_ins), caption(tables, areas[0], categories)])
        return Results(pictures, tables, text, alt_texts(tables, areas[0], categories or names))


def _stand_ins(stand_ins: Mapping[str, str]) -> list[str]:
    """Return a sentence for each category that another one replaces."""
    return [
        f"The data have no category '{name}'; '{other}' is drawn instead, chosen by its number "
        "of objects."
        for name, other in stand_ins.items()
        if other != name
    ]


def caption(tables: dict[str, DataFrame], area: str, categories: Sequence[str] = ()) -> str:
    """Return AP and the largest loss of each run, also for single ``categories``.

    Numbers that are undefined are named.
    """
    from analysis.figures.coco_errors.compute import seed_means

    numbers = tables["coco_errors"]
    means = seed_means(numbers[(numbers["area"] == area) & numbers["C50"].notna()])
    aps = [
        f"AP50 of {category}: "
        + ", ".join(f"{run} {ap:.1f}" for run, ap in zip(lines["run"], lines["C50"], strict=True))
        + "."
        for category in categories
        if len(lines := means[means["category"] == category])
    ]
    return " ".join([*aps, *_sentences(numbers, area)])


def _sentences(numbers: DataFrame, area: str) -> Iterator[str]:
    from analysis.figures.coco_errors.compute import OVERALL, defined_parts, seed_means

    overall = seed_means(numbers[numbers["category"] == OVERALL])
    parts = defined_parts(overall)
    for line in overall[(overall["area"] == area) & overall["C50"].notna()].to_dict("records"):
        largest = max(parts, key=lambda part: line[part])
        yield (
            f"{line['run']}: AP50 {line['C50']:.1f}, AP75 {line['C75']:.1f}; "
            f"the largest loss is {largest} ({line[largest]:.1f} AP)."
        )
    if "similar class" not in parts:
        yield "The categories have no supercategories, so Sim is undefined."
    empty = numbers[(numbers["category"] != OVERALL) & (numbers["objects"] == 0)]
    for area_range, lines in empty.groupby("area", sort=False):
        absent = ", ".join(lines["category"].unique())
        yield f"Categories without an object in the range of areas '{area_range}': {absent}."
