"""Tables of rank agreement: a line for each object, their means, and the priors of examples."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.figures.final_boxes import prior_name
from analysis.figures.rank_agreement.ranking import RankedImage, Ranking, compare
from analysis.statistics.bootstrap import resample
from analysis.statistics.resampled import RESAMPLES, bootstrap_mean
from kd.evaluation.matching import AREAS
from kd.evaluation.voc import Floats

SMALL, MEDIUM = (AREAS[name][1] for name in ("small", "medium"))
"""Largest areas of COCO's small and medium objects, in square pixels."""
GROUPS = {
    "difficulty": ("easy", "hard"),
    "size": ("small", "medium", "large"),
}
"""Columns of the objects' table, and the groups that each divides them into."""
MEASURES = {"agreement": "same", "kl": "kl", "top1": "top1", "rho": "rho"}
"""Measures, each the mean over the defined values of a column of the objects' table."""
TEACHER = "Teacher"
CORNERS = ["x1", "y1", "x2", "y2"]

Choice = Literal["disagreement", "random"]


@dataclass(frozen=True)
class ExampleObject:
    """An object of the picture."""

    priority: float
    image_number: int
    """Number of its image in the tables."""
    index: int
    """Number of the object in its image."""
    image: RankedImage


def compute_tables(
    images: Iterable[RankedImage],
    run_names: Sequence[str],
    classes: Sequence[str],
    easy: float,
    example_count: int,
    choice: Choice,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], list[ExampleObject]]:
    """Return the means by run and group, the objects, and the priors of the example objects."""
    objects, examples = gather(images, run_names, classes, easy, example_count, choice, seed)
    tables = {
        "rank_agreement": summary(objects, seed),
        "rank_agreement-objects": objects,
        "rank_agreement-priors": priors(examples, run_names),
    }
    return tables, examples


def gather(
    images: Iterable[RankedImage],
    run_names: Sequence[str],
    classes: Sequence[str],
    easy: float,
    example_count: int,
    choice: Choice,
    seed: int,
) -> tuple[pd.DataFrame, list[ExampleObject]]:
    """Return a line for each run and object, and the example objects.

    ``easy`` is the smallest IoU of the teacher's final box with an easy object. Examples have the
    largest KL of the first run, or are random by ``seed``; all have two positive priors or more.
    """
    lines: list[dict[str, Any]] = []
    examples: list[ExampleObject] = []
    random = np.random.default_rng(seed)
    for number, image in enumerate(images):
        for index in range(len(image.labels)):
            object_columns = {"image": number, "object": index}
            object_columns |= _object_columns(image, index, classes, easy)
            comparisons = [_student_columns(image, student, index) for student in image.students]
            lines += [
                {"run": run} | object_columns | columns
                for run, columns in zip(run_names, comparisons, strict=True)
            ]
            if not np.isnan(kl := comparisons[0]["kl"]):
                priority = kl if choice == "disagreement" else random.random()
                examples.append(ExampleObject(priority, number, index, image))
        # Only the best are stored, because each one holds its image.
        examples = sorted(examples, key=lambda example: -example.priority)[:example_count]
    return pd.DataFrame(lines), examples


def _object_columns(
    image: RankedImage, index: int, classes: Sequence[str], easy: float
) -> dict[str, Any]:
    left, top, right, bottom = image.boxes[index].tolist()
    area = (right - left) * (bottom - top)
    iou = float(image.teacher.iou[index])
    return {
        "file": image.path.rpartition("/")[2],
        "class": classes[int(image.labels[index])],
        "x1": left, "y1": top, "x2": right, "y2": bottom,
        "size": "small" if area < SMALL else "medium" if area < MEDIUM else "large",
        "difficulty": "easy" if iou >= easy else "hard",
        "teacher_prior": prior_name(int(image.teacher.prior[index]), image.levels),
        "teacher_iou": iou,
    }  # fmt: skip


def _student_columns(image: RankedImage, student: Ranking, index: int) -> dict[str, Any]:
    teacher_prior, student_prior = int(image.teacher.prior[index]), int(student.prior[index])
    both = teacher_prior >= 0 and student_prior >= 0
    comparison = compare(image.teacher.scores[index], student.scores[index])
    return {
        "prior": prior_name(student_prior, image.levels),
        "iou": float(student.iou[index]),
        "same": float(teacher_prior == student_prior) if both else np.nan,
        "positives": len(image.positives[index]),
        **comparison._asdict(),
    }


def summary(objects: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return a line for each run and group of objects: measures with intervals, and counts.

    ``objects`` is the table of ``gather``. Intervals are percentiles of resampled images.
    """
    weights = resample(objects["image"].nunique(), RESAMPLES, seed)
    return pd.DataFrame(
        {"run": run, "group": group} | _group_columns(group_lines, weights)
        for run, lines in objects.groupby("run", sort=False)
        for group, group_lines in _object_groups(lines)
    )


def _object_groups(lines: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "all", lines
    for column, names in GROUPS.items():
        for name in names:
            yield name, lines[lines[column] == name]


def _group_columns(lines: pd.DataFrame, weights: Floats) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "objects": len(lines),
        "teacher_found": int(lines["teacher_iou"].notna().sum()),
        "found": int(lines["iou"].notna().sum()),
        "both": int(lines["same"].notna().sum()),
        "ranked": int(lines["kl"].notna().sum()),
        "without_rho": int((lines["kl"].notna() & lines["rho"].isna()).sum()),
    }
    for measure, column in MEASURES.items():
        middle, low, high = bootstrap_mean(lines[column], lines["image"], weights)
        columns |= {measure: middle, f"{measure}_low": low, f"{measure}_high": high}
    for name, same in (("same", 1), ("different", 0)):
        subset = lines[lines["same"] == same]
        columns |= {f"teacher_iou_{name}": subset["teacher_iou"].mean()}
        columns |= {f"iou_{name}": subset["iou"].mean()}
    return columns


def priors(examples: Sequence[ExampleObject], run_names: Sequence[str]) -> pd.DataFrame:
    """Return a line for each run (the teacher first), object and positive prior, with its score.

    ``rank`` is the rank of the prior by the teacher's score, from 1. ``final`` is true if the run's
    final box of the object was regressed from the prior. Corners are in pixels of the image file.
    """
    lines = []
    for example in examples:
        image, index = example.image, example.index
        order = image.teacher.scores[index].argsort(descending=True, stable=True)
        rankings = (image.teacher, *image.students)
        for run, ranking in zip((TEACHER, *run_names), rankings, strict=True):
            for rank, place in enumerate(order.tolist(), start=1):
                prior = int(image.positives[index][place])
                corners = image.anchors[index][place].tolist()
                lines.append(
                    {"run": run, "image": example.image_number, "object": index}
                    | {"prior": prior_name(prior, image.levels), "rank": rank}
                    | {"score": float(ranking.scores[index][place])}
                    | {"final": prior == int(ranking.prior[index])}
                    | dict(zip(CORNERS, corners, strict=True))
                )
    return pd.DataFrame(lines)


def describe(frame: pd.DataFrame, objects: pd.DataFrame) -> str:
    """Return the results of ``summary`` and ``gather`` for all objects, in sentences."""
    whole = frame[frame["group"] == "all"]
    easy = frame[frame["group"] == "easy"]
    first, easy_objects = whole.iloc[0], int(easy["objects"].iloc[0])
    agreement = "; ".join(_agreement(line) for line in whole.to_dict("records"))
    return (
        f"Images: {objects['image'].nunique()}; objects: {first['objects']}; detected by the "
        f"teacher: {first['teacher_found']}; easy: {easy_objects}; with two positive "
        f"priors or more: {first['ranked']}. Final boxes from the teacher's prior: {agreement}."
    )


def _agreement(line: Mapping[Hashable, Any]) -> str:
    if not line["both"]:
        return f"{line['run']} none of 0"
    low, high = line["agreement_low"], line["agreement_high"]
    interval = "" if np.isnan(low) else f" ({100 * low:.0f} to {100 * high:.0f})"
    return f"{line['run']} {100 * line['agreement']:.0f} %{interval} of {line['both']}"
