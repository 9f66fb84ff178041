"""Images on which distillation helped or harmed most: chosen by one rule, drawn with all boxes."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from analysis.matching.matching import Detections, Matches, Objects, Pairing, match
from analysis.plotting import overlay
from analysis.plotting.lettering import legible
from analysis.plotting.style import QUIET, STYLE, WIDTH
from analysis.tables.formatting import MINUS
from kd.data import decoding

Choice = Literal["gain", "loss", "random"]
TITLES: dict[Choice, str] = {"gain": "Largest gain", "loss": "Largest loss", "random": "At random"}
MISSED = "#0072B2"
"""Of Okabe and Ito."""
KINDS: dict[str, tuple[str, Any, str]] = {
    "object": (overlay.TRUTH, "-", "object"),
    "right": (overlay.TRUTH, "-", "object, or found"),
    "wrong": (overlay.FOUND, "--", "found, but wrong"),
    "missed": (MISSED, ":", "missed"),
}
"""What is drawn: colour, dash, and its name in the legend."""
CORNERS = ("left", "top", "right", "bottom")
Box = tuple[float, float, float, float]
"""xyxy, in pixels."""
TALLEST = 1.5
"""Inches of an image."""
TEXT, LONGEST, LINE = 4.5, 18, 90
"""Points of the names of boxes; characters of a class's name, and of all titles of columns."""
DIGITS = 9
"""To which gains are rounded, so that equal ones are equal."""
SMALL = 1.4
"""Inches of an image below which the names are smaller."""
CASING: dict[str, Any] = {"linewidth": 1.9, "foreground": "white", "alpha": 0.75}
"""About the lines of boxes, which would be lost on ground of their colour."""
LEFT: dict[str, Any] = {
    "xycoords": "axes fraction", "textcoords": "offset points", "rotation": 90,
    "ha": "right", "va": "center", "fontsize": 7,
}  # fmt: skip
ABOVE: dict[str, Any] = {
    "xycoords": "axes fraction", "textcoords": "offset points",
    "ha": "center", "va": "bottom", "fontsize": 8, "fontweight": "bold",
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What one run finds in the images of the test split, from a score on."""

    run: str
    pairing: Pairing
    matches: Matches
    score: float

    @property
    def right(self) -> np.ndarray:
        """(D,): the true positives."""
        return self.matches.right & (self.pairing.detections.score >= self.score)

    @property
    def wrong(self) -> np.ndarray:
        """(D,): the false positives."""
        return self.matches.wrong & (self.pairing.detections.score >= self.score)

    @property
    def missed(self) -> np.ndarray:
        """(G,): the objects that are not found."""
        missed = self.matches.counted.copy()
        missed[self.matches.object[self.right]] = False
        return missed


def see(run: str, pairing: Pairing, iou: float, score: float | None) -> Seen:
    """Match at ``iou``; without a ``score`` count from that on at which the run's F1 is highest."""
    matches = match(pairing, iou)
    best = best_score(pairing.detections.score, matches) if score is None else score
    return Seen(run, pairing, matches, best)


def best_score(scores: np.ndarray, matches: Matches) -> float:
    """Return the score (0 to 1) from which on detections of all images have the highest F1.

    Of several the highest; 1 without a detection. Detections (D,) that are ignored do not count.
    """
    counts = np.flatnonzero(~matches.ignored)
    if not len(counts):
        return 1.0
    order = counts[np.argsort(-scores[counts], kind="stable")]
    right = np.cumsum(matches.right[order])
    values = f1(right, np.arange(1, len(order) + 1) - right, matches.counted.sum() - right)
    last = np.append(scores[order][1:] != scores[order][:-1], True)  # equal scores go together
    return float(scores[order[np.argmax(np.where(last, values, -1))]])


def f1(right: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """Return the F1 of counts; NaN where there is nothing to find."""
    objects = right + missed
    return np.where(objects > 0, 2 * right / np.maximum(objects + right + wrong, 1), np.nan)


def count(seen: Seen) -> pd.DataFrame:
    """Return a line for each image: how many are right, wrong and missed, and the image's F1."""
    pairing, images = seen.pairing, len(seen.pairing.images)
    right, wrong = (
        np.bincount(pairing.detections.image[chosen], minlength=images)
        for chosen in (seen.right, seen.wrong)
    )
    missed = np.bincount(pairing.objects.image[seen.missed], minlength=images)
    columns = {"image": pairing.images, "run": seen.run, "right": right, "wrong": wrong}
    return pd.DataFrame(columns | {"missed": missed, "f1": f1(right, wrong, missed)})


def compare(baseline: Seen, distilled: Sequence[Seen]) -> pd.DataFrame:
    """Return the counts of all runs, the images' ``gain`` in F1, and ``fewer`` errors.

    Both are means over the distilled runs, over the baseline.
    """
    base, *others = (count(seen) for seen in (baseline, *distilled))
    errors = [each["wrong"] + each["missed"] for each in (base, *others)]
    gain = np.mean([each["f1"] - base["f1"] for each in others], axis=0).round(DIGITS)
    fewer = np.mean([errors[0] - each for each in errors[1:]], axis=0)
    return pd.concat([each.assign(gain=gain, fewer=fewer) for each in (base, *others)])


def choose(
    frame: pd.DataFrame, choices: Sequence[Choice], number: int, seed: int
) -> dict[Choice, list[Any]]:
    """Return the images of each choice, ``number`` at most, none of them twice.

    Of equal gains that with more errors avoided (of equal losses, with more added) comes first,
    then that of the lower id. One that neither gains nor loses, or that has no object and so no
    F1, is only chosen at random.
    """
    images = frame.drop_duplicates("image").sort_values("image").reset_index(drop=True)
    down = images.sort_values(["gain", "fewer"], ascending=False, kind="stable")
    up = images.sort_values(["gain", "fewer"], kind="stable")
    order = np.random.default_rng(seed).permutation(len(images))
    ranked: dict[Choice, pd.Series[Any]] = {
        "gain": down.loc[down["gain"] > 0, "image"],
        "loss": up.loc[up["gain"] < 0, "image"],
        "random": images.loc[order, "image"],
    }
    taken: set[Any] = set()
    found: dict[Choice, list[Any]] = {}
    for choice in sorted(choices, key=list(TITLES).index):
        left = [image for image in ranked[choice] if image not in taken]
        found[choice] = left[:number]
        taken.update(found[choice])
    return found


def name(
    frame: pd.DataFrame, chosen: Mapping[Choice, Sequence[Any]], files: Mapping[Any, str]
) -> pd.DataFrame:
    """Return the counts with ``file``, ``chosen`` (why, or nothing) and ``rank`` in the figure."""
    order = [(image, choice) for choice, images in chosen.items() for image in images]
    reasons = dict(order)
    ranks = {image: rank for rank, (image, _) in enumerate(order)}
    images = frame["image"]
    return frame.assign(
        file=images.map(files), chosen=images.map(reasons).fillna(""), rank=images.map(ranks)
    )


def boxes(seen: Sequence[Seen], images: Sequence[Any]) -> pd.DataFrame:
    """Return what is drawn in ``images``: the objects, without a run, and what each run makes of
    them; xyxy in pixels. ``kind``: object, right, wrong (detections) or missed (objects).
    """
    first = seen[0]
    parts = [
        _boxes("", "object", first.pairing, first.pairing.objects, first.matches.counted, images)
    ]
    for each in seen:
        pairing = each.pairing
        for kind, columns, chosen in (
            ("right", pairing.detections, each.right),
            ("wrong", pairing.detections, each.wrong),
            ("missed", pairing.objects, each.missed),
        ):
            parts.append(_boxes(each.run, kind, pairing, columns, chosen, images))
    return pd.concat(parts, ignore_index=True)


def _boxes(
    run: str,
    kind: str,
    pairing: Pairing,
    columns: Objects | Detections,
    chosen: np.ndarray,
    images: Sequence[Any],
) -> pd.DataFrame:
    ids = np.array(pairing.images)
    rows = np.flatnonzero(chosen & np.isin(ids, images)[columns.image])
    return pd.DataFrame(
        {
            "image": ids[columns.image[rows]],
            "run": run,
            "kind": kind,
            "class": np.array(pairing.classes, dtype=object)[columns.label[rows]],
            "score": columns.score[rows] if isinstance(columns, Detections) else np.nan,
            **dict(zip(CORNERS, columns.box[rows].T, strict=True)),
        }
    )


def load(path: Path) -> np.ndarray:
    """Return an image (H, W, 3), 0 to 1, turned as detectors see it; UserError without one."""
    return decoding.load(path) / 255


def plot(frame: pd.DataFrame, drawn: pd.DataFrame, pictures: Mapping[Any, np.ndarray]) -> Figure:
    """Return a row for each chosen image: its objects, then what each run makes of them.

    ``frame``: of ``compare``, with ``chosen`` and ``file``; ``drawn``: of ``boxes``; ``pictures``:
    images (H, W, 3), 0 to 1.
    """
    runs = [str(run) for run in frame["run"].unique()]
    rows = _in_order(frame)
    across = len(runs) + 1
    if not rows:
        return _nothing()
    heights = [_height(pictures[row["image"]], across) for row in rows]
    with rc_context(STYLE):
        engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        size = (WIDTH, sum(heights) + 0.2 * len(heights) + 0.5)
        figure = Figure(figsize=size, layout=engine)
        grid = figure.subplots(len(rows), across, squeeze=False, height_ratios=heights)
        for line, row, height in zip(grid, rows, heights, strict=True):
            image = pictures[row["image"]]
            values = frame[frame["image"] == row["image"]].set_index("run")["f1"]
            of_image = drawn[drawn["image"] == row["image"]]
            for axes, run in zip(line, ["", *runs], strict=True):
                overlay.show(axes, image)
                _mark(axes, of_image[of_image["run"] == run], image.shape[:2], height)
                title = _f1(values[run]) if run else legible(Path(row["file"]).name)
                axes.set_title(title, fontsize=6, fontweight="normal", pad=2)
            line[0].annotate(_reason(row), (0, 0.5), xytext=(-4, 0), **LEFT)
        for axes, name in zip(grid[0], ["Objects", *runs], strict=True):
            name = textwrap.fill(name, LINE // across)
            axes.annotate(name, (0.5, 1), xytext=(0, 11), **ABOVE)
        _legend(figure)
    return figure


def _nothing() -> Figure:
    figure = Figure(figsize=(WIDTH, 1.0))
    figure.text(0.5, 0.5, "no image to show", ha="center", color=QUIET)
    return figure


def _in_order(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the chosen images, a line each: by the choice, then as they were ranked."""
    images = frame[frame["chosen"] != ""].drop_duplicates("image")
    return images.sort_values("rank").to_dict("records")


def _height(image: np.ndarray, across: int) -> float:
    """Return the height of an image in inches."""
    return min((WIDTH - 0.3) / across * image.shape[0] / image.shape[1], TALLEST)


def _f1(value: float) -> str:
    return "nothing to find" if np.isnan(value) else f"F1 {value:.2f}"


def _reason(row: Mapping[Any, Any]) -> str:
    title = TITLES[row["chosen"]]
    return title if np.isnan(row["gain"]) else f"{title}\n({row['gain']:+.2f})".replace("-", MINUS)


def _mark(axes: Axes, drawn: pd.DataFrame, image: tuple[int, int], height: float) -> None:
    """Draw boxes with their classes and scores over an image of (H, W) pixels and inches."""
    taken: list[Box] = []
    text = TEXT * min(1, height / SMALL)
    pixels = text * image[0] / height / 72
    for line in drawn.to_dict("records"):
        colour, dash, _ = KINDS[line["kind"]]
        left, top, right, bottom = box = [line[corner] for corner in CORNERS]
        overlay.outline(axes, np.array([box]), colour, dash)
        axes.patches[-1].set_path_effects([withStroke(**CASING)])
        score = "" if np.isnan(line["score"]) else f" {line['score']:.2f}"
        name = legible(line["class"], LONGEST) + score
        place = _free(
            (left, top, right, bottom), len(name) * 0.64 * pixels, 1.4 * pixels, image, taken
        )
        if place is None:
            continue
        taken.append(place)
        axes.text(
            place[0], place[1], name, fontsize=text, color="white", va="top",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.4, "alpha": 0.85},
        )  # fmt: skip


def _free(
    box: Box, width: float, height: float, image: tuple[int, int], taken: Sequence[Box]
) -> Box | None:
    """Return a place for a name beside its box, off those that are taken; None without one."""
    left, top, right, bottom = box
    for y in (top - height, bottom, top, bottom - height):
        for x in (left, right - width):
            x_in = min(max(x, 0), max(image[1] - width, 0))
            y_in = min(max(y, 0), max(image[0] - height, 0))
            place = (x_in, y_in, x_in + width, y_in + height)
            if not any(_meet(place, other) for other in taken):
                return place
    return None


def _meet(one: Box, other: Box) -> bool:
    across = min(one[2], other[2]) > max(one[0], other[0])
    return across and min(one[3], other[3]) > max(one[1], other[1])


def _legend(figure: Figure) -> None:
    handles = [
        Patch(fill=False, edgecolor=colour, linestyle=dash, label=label)
        for colour, dash, label in (KINDS[kind] for kind in ("right", "wrong", "missed"))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
