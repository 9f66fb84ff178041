"""Text that ``kd start`` prints: what it read, warnings, the proposal and the next command."""

from collections import Counter
from collections.abc import Iterator, Sequence

from kd.common.lists import enumerate_names
from kd.data.entry import SplitName
from kd.start.dividing import Splits
from kd.start.labels import Oddity
from kd.start.measures import FEW_BOXES, REFERENCE_IMAGES
from kd.start.samples import Sample, boxes_per_class
from kd.start.start import Started

MOST_CLASSES = 20
SMALL, MEDIUM = 32**2, 96**2


def describe(started: Started) -> str:
    """Return the text on a start."""
    parts = [*_content(started), *_warnings(started), *_proposal(started), *_next(started)]
    return "\n".join(parts)


def _content(started: Started) -> Iterator[str]:
    labels, division = started.labels, started.division
    splits = division.splits
    yield f"Format: {labels.title}"
    for split, samples in splits.items():
        yield _split_line(split, samples, division)
        yield f"    {_classes(boxes_per_class(samples, labels.classes))}"
    if labels.left_out:
        yield "Left out:"
        yield from _oddities(labels.left_out)
    if labels.notes:
        yield "Notes:"
        yield from _oddities(labels.notes)


def _split_line(split: SplitName, samples: Sequence[Sample], division: Splits) -> str:
    areas = [box.xywh[2] * box.xywh[3] for one in samples for box in one.boxes]
    small = sum(area < SMALL for area in areas)
    large = sum(area >= MEDIUM for area in areas)
    empty = sum(not one.boxes for one in samples)
    origin = f", split off with seed {division.seed}" if split in division.split_off else ""
    return (
        f"  {split}: {len(samples)} images ({empty} without boxes), {len(areas)} boxes ({small} "
        f"small, {len(areas) - small - large} medium, {large} large){origin}"
    )


def _classes(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    more = len(ordered) - MOST_CLASSES
    text = ", ".join(f"{name} {count}" for name, count in ordered[:MOST_CLASSES])
    return text + (f", and {more} classes with fewer" if more > 0 else "")


def _oddities(oddities: Sequence[Oddity]) -> Iterator[str]:
    counts = Counter(one.kind for one in oddities)
    for kind, count in counts.items():
        first = next(one.place for one in oddities if one.kind == kind)
        yield f"  {count} {kind}; the first: {first}"


def _warnings(started: Started) -> Iterator[str]:
    measures, division = started.measures, started.division
    lines = []
    if measures.test_is_small:
        lines.append(
            f"the test split is small: with {measures.test_images} images, expect an interval of "
            f"about ±{measures.half_width:.1f} AP for a gain of one seed over test images (BCCD's "
            f"{REFERENCE_IMAGES} images gave ±1.8 and ±2.2); smaller gains cannot be shown"
        )
    for split in ("train", "test"):
        rare = measures.rare[split]  # type: ignore[index]
        if rare:
            names = enumerate_names(f"'{name}'" for name in rare[:5])
            more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
            lines.append(f"fewer than {FEW_BOXES} boxes in {split}: {names}{more}")
    if division.groups and division.split_off:
        lines.append(
            f"{division.grouped_images} images are in {division.groups} groups of almost equal "
            "images; each group is in one split where splits were split off"
        )
    if division.leaks:
        first, second = division.leaks[0]
        lines.append(
            f"{len(division.leaks)} images are almost equal to one of another split, such as "
            f"{first} and {second}; AP on them says little"
        )
    if division.video_like and division.split_off:
        name, count = division.video_like
        lines.append(
            f"{count} images are numbered ('{name}...'); if they are frames of few videos, make "
            "the splits by video, because neighboring frames are alike"
        )
    if lines:
        yield "Warnings:"
        yield from (f"  {line}" for line in lines)


def _proposal(started: Started) -> Iterator[str]:
    one = started.proposal
    (width, height), epochs = one.image_size[0], one.schedule["epochs"][0]
    if one.input_size:
        width = height = one.input_size[0][one.detector[0]]
    yield (
        f"Proposed for {started.machine.name}: {one.detector[0]}, {one.teacher[0]} teaches "
        f"{one.student[0]}, images of {width} x {height} pixels, {epochs} epochs, "
        f"methods {' and '.join(one.methods[0])}, seeds: {one.seeds[0]}"
    )
    yield "Wrote:"
    yield from (f"  {path}" for path in started.files.written)
    if started.files.removed:
        yield "Removed, as an earlier start wrote them and this one has others:"
        yield from (f"  {path}" for path in started.files.removed)


def _next(started: Started) -> Iterator[str]:
    gpu = " gpus=1 workers=4" if started.machine.device == "gpu" else ""
    yield "The files give the reason for each value. Change them if you like, then run:"
    yield f"  snakemake --config study={started.study} scale=own{gpu}"
