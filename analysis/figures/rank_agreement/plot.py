"""Whether teacher and students make an object's final box from one prior, counted and drawn."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.rank_agreement.compute import RankedImage, Ranking, compare
from analysis.matching.matching import AREAS
from analysis.plotting.dots import panels, points, reference
from analysis.plotting.style import QUIET, STYLE, Look
from analysis.statistics.bootstrap import resample
from analysis.statistics.resampled import RESAMPLES, bootstrap_mean
from kd.evaluation.voc import Floats

SMALL, MEDIUM = (AREAS[name][1] for name in ("small", "medium"))
"""Square pixels: where COCO's sizes end."""
GROUPS = {
    "difficulty": ("easy", "hard"),
    "size": ("small", "medium", "large"),
}
"""Columns of the objects' frame, and the groups that each divides them into."""
MEASURES = {"agreement": "same", "kl": "kl", "top1": "top1", "rho": "rho"}
"""Measure: the objects' column that it is the mean of, where that is defined."""
PANELS = {
    "agreement": ("Final box from\nthe same prior", "share of objects"),
    "top1": ("Same prior\nranked first", "share of objects"),
    "rho": ("Ranks of\npositive priors", "Spearman's rho"),
    "kl": ("Distributions over\npositive priors", "KL (nats)"),
}
"""Measure: title and axis label of its panel."""
MARKS = {"all": (-0.22, None), "easy": (0.03, "^"), "hard": (0.28, "v")}
"""Group: where in its row it is drawn, and its marker where that is not the run's own."""

Choice = Literal["disagreement", "random"]


@dataclass(frozen=True)
class Drawn:
    """An object that is chosen to be drawn."""

    priority: float
    number: int
    """Of its image, as the frames count them."""
    index: int
    """Of the object in its image."""
    image: RankedImage


def gather(
    images: Iterable[RankedImage],
    runs: Sequence[str],
    classes: Sequence[str],
    easy: float,
    shown: int,
    choice: Choice,
    seed: int,
) -> tuple[pd.DataFrame, list[Drawn]]:
    """Return a line per run and object, and the ``shown`` objects to draw.

    ``easy``: the least IoU of the teacher's final box with an easy object. Objects are drawn where
    the first run's KL is largest, or at random by ``seed``; those with one positive prior never.
    """
    lines: list[dict[str, Any]] = []
    drawn: list[Drawn] = []
    random = np.random.default_rng(seed)
    for number, image in enumerate(images):
        for index in range(len(image.labels)):
            shared = {"image": number, "object": index} | _object(image, index, classes, easy)
            compared = [_compared(image, student, index) for student in image.students]
            lines += [
                {"run": run} | shared | each for run, each in zip(runs, compared, strict=True)
            ]
            if not np.isnan(kl := compared[0]["kl"]):
                priority = kl if choice == "disagreement" else random.random()
                drawn.append(Drawn(priority, number, index, image))
        drawn = sorted(drawn, key=lambda each: -each.priority)[:shown]
    return pd.DataFrame(lines), drawn


def _object(image: RankedImage, index: int, classes: Sequence[str], easy: float) -> dict[str, Any]:
    left, top, right, bottom = image.boxes[index].tolist()
    area = (right - left) * (bottom - top)
    iou = float(image.teacher.iou[index])
    return {
        "file": image.path.rpartition("/")[2],
        "class": classes[int(image.labels[index])],
        "x1": left, "y1": top, "x2": right, "y2": bottom,
        "size": "small" if area < SMALL else "medium" if area < MEDIUM else "large",
        "difficulty": "easy" if iou >= easy else "hard",
        "teacher_prior": image.place(int(image.teacher.prior[index])),
        "teacher_iou": iou,
    }  # fmt: skip


def _compared(image: RankedImage, student: Ranking, index: int) -> dict[str, Any]:
    wanted, found = int(image.teacher.prior[index]), int(student.prior[index])
    alike = compare(image.teacher.scores[index], student.scores[index])
    return {
        "prior": image.place(found),
        "iou": float(student.iou[index]),
        "same": float(wanted == found) if wanted >= 0 and found >= 0 else np.nan,
        "positives": len(image.positives[index]),
        **alike._asdict(),
    }


def summary(lines: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return a line per run and group of objects: each measure with its interval, and counts.

    ``lines``: of ``objects``. An interval is between percentiles of resampled images.
    """
    weights = resample(lines["image"].nunique(), RESAMPLES, seed)
    return pd.DataFrame(
        {"run": run, "group": group} | _measured(of_group, weights)
        for run, of_run in lines.groupby("run", sort=False)
        for group, of_group in _groups(of_run)
    )


def _groups(lines: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "all", lines
    for column, names in GROUPS.items():
        for name in names:
            yield name, lines[lines[column] == name]


def _measured(lines: pd.DataFrame, weights: Floats) -> dict[str, Any]:
    found: dict[str, Any] = {
        "objects": len(lines),
        "teacher_found": int(lines["teacher_iou"].notna().sum()),
        "found": int(lines["iou"].notna().sum()),
        "both": int(lines["same"].notna().sum()),
        "ranked": int(lines["kl"].notna().sum()),
        "without_rho": int((lines["kl"].notna() & lines["rho"].isna()).sum()),
    }
    for measure, column in MEASURES.items():
        middle, low, high = bootstrap_mean(lines[column], lines["image"], weights)
        found |= {measure: middle, f"{measure}_low": low, f"{measure}_high": high}
    for name, same in (("same", 1), ("different", 0)):
        chosen = lines[lines["same"] == same]
        found |= {f"teacher_iou_{name}": chosen["teacher_iou"].mean()}
        found |= {f"iou_{name}": chosen["iou"].mean()}
    return found


def caption(frame: pd.DataFrame, lines: pd.DataFrame) -> str:
    """Return in words what ``summary`` and ``gather`` found of all objects."""
    whole = frame[frame["group"] == "all"]
    easy = frame[frame["group"] == "easy"]
    first, counted = whole.iloc[0], int(easy["objects"].iloc[0])
    agreement = "; ".join(_in_words(line) for line in whole.to_dict("records"))
    return (
        f"Images: {lines['image'].nunique()}; objects: {first['objects']}; found by the teacher: "
        f"{first['teacher_found']}, of which easy: {counted}; with two positive priors or more: "
        f"{first['ranked']}. Final boxes from the teacher's prior: {agreement}."
    )


def _in_words(line: Mapping[Hashable, Any]) -> str:
    if not line["both"]:
        return f"{line['run']} none of 0"
    low, high = line["agreement_low"], line["agreement_high"]
    between = "" if np.isnan(low) else f" ({100 * low:.0f} to {100 * high:.0f})"
    return f"{line['run']} {100 * line['agreement']:.0f} %{between} of {line['both']}"


def plot(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a panel for each measure, with a point for all objects, the easy and the hard ones.

    ``frame``: of ``summary``. The dotted line is the first run's value of all objects.
    """
    runs = list(frame["run"].unique())
    with rc_context(STYLE):
        figure, grid = panels(runs, 1, len(PANELS), 0.42)
        for axes, (measure, (title, label)) in zip(grid.flat, PANELS.items(), strict=True):
            axes.set_title(title, loc="left", fontsize=8)
            axes.set_xlabel(label)
            for group, (offset, marker) in MARKS.items():
                of_group = frame[frame["group"] == group]
                points(axes, of_group, measure, looks, offset, marker)
            reference(axes, frame[measure].iloc[0])
            if frame[measure].isna().all():
                axes.set_xticks([])
                axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", color=QUIET)
        # The last one's values are small.
        grid[0, -1].ticklabel_format(axis="x", scilimits=(-2, 3), useMathText=True)
        grid[0, -1].xaxis.get_offset_text().set_parse_math(True)
        figure.legend(handles=_legend(), loc="outside upper right", ncols=3, frameon=False)
    return figure


def _legend() -> list[Line2D]:
    return [
        Line2D(
            [], [], color=QUIET, marker=marker or "o", linestyle="none", markersize=4,
            markerfacecolor="white" if marker else QUIET, label=f"{group} objects",
        )
        for group, (_, marker) in MARKS.items()
    ]  # fmt: skip
