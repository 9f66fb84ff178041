"""Splits of a labeled folder: those that it states, and those that are split off."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kd.common.errors import UserError
from kd.data.entry import SplitName
from kd.data.stratify import held_out
from kd.start.samples import Sample

ORDER: tuple[SplitName, ...] = ("train", "val", "test")
NO_BOX = ""
"""Label of images without boxes."""
LEAST_GROUPS = 3
ROBOFLOW_COPY = re.compile(r"(.+)[._](?:jpe?g|png|bmp|webp)\.rf\.[0-9a-zA-Z]+", re.IGNORECASE)
"""Name of an augmented copy of an image; Roboflow writes several copies of one image."""
NUMBERED = re.compile(r"(.*?)\d+$")
FRAMES = 20
"""Images with names that differ only in a number, from which they may be frames of a video."""


@dataclass(frozen=True)
class Splits:
    """Samples by split, and how the splits were made."""

    splits: dict[SplitName, list[Sample]]
    split_off: dict[SplitName, float]
    """Share of all images of each split that the folder did not have."""
    seed: int
    groups: int
    """Groups of almost equal images, which are in one split each where it was split off."""
    grouped_images: int
    leaks: list[tuple[Path, Path]]
    """Almost equal images in different splits of the folder."""
    video_like: tuple[str, int] | None
    """Beginning of the names of images that may be frames of a video, and their number."""


def divide(
    samples: Sequence[Sample],
    alike: Sequence[Sequence[Path]],
    shares: dict[SplitName, float],
    seed: int,
    root: Path,
) -> Splits:
    """Return the splits; those that the folder lacks are split off ``train``.

    ``alike``: groups of almost equal images, which stay together. ``shares``: of all images, for
    ``val`` and ``test``. The same seed gives the same splits, whatever the order of the images.
    UserError as in ``stated_splits``, or if there are too few images to split off others.
    """
    group_of = _groups(samples, alike)
    names = stated_splits(samples, root)
    splits: dict[SplitName, list[Sample]] = {
        split: [sample for sample in samples if names and sample.split == split] for split in ORDER
    }
    if not names:
        splits["train"] = list(samples)
    missing = {split: share for split, share in shares.items() if not splits[split]}
    for split in sorted(missing, reverse=True):  # test first
        share = missing[split] * len(samples) / max(len(splits["train"]), 1)
        rest, part = _take(splits["train"], group_of, min(share, 0.5), seed, root)
        splits["train"], splits[split] = rest, part
    groups = Counter(group_of[sample.path] for sample in samples)
    several = [count for count in groups.values() if count > 1]
    return Splits(
        splits,
        missing,
        seed,
        len(several),
        sum(several),
        list(_leaks(splits, group_of)),
        _video_like(samples),
    )


def stated_splits(samples: Sequence[Sample], root: Path) -> set[SplitName]:
    """Return the splits that a folder states; none if it states a single one, except train.

    UserError if there are a val and a test but no train split.
    """
    names = {sample.split for sample in samples if sample.split}
    if "train" in names or not names:
        return names
    if len(names) > 1:
        raise UserError(
            f"{root}: has splits {' and '.join(sorted(names))}, but none to train on; add 'train', "
            "or rename a split"
        )
    return set()


def _groups(samples: Sequence[Sample], alike: Sequence[Sequence[Path]]) -> dict[Path, str]:
    """Return the group of each image: almost equal images, or copies that Roboflow augmented."""
    group_of: dict[Path, str] = {}
    for sample in samples:
        copy = ROBOFLOW_COPY.fullmatch(sample.path.stem)
        group_of[sample.path] = f"copy {copy[1]}" if copy else str(sample.path)
    members: dict[str, set[Path]] = {}
    for path, name in group_of.items():
        members.setdefault(name, set()).add(path)
    for group in alike:
        first, *others = sorted({group_of[path] for path in group if path in group_of})
        for name in others:
            for path in members[name]:
                group_of[path] = first
            members[first] |= members.pop(name)
    return group_of


def _take(
    samples: list[Sample], group_of: dict[Path, str], share: float, seed: int, root: Path
) -> tuple[list[Sample], list[Sample]]:
    """Return the samples that stay and those that are held out, with whole groups in each."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(group_of[sample.path], []).append(sample)
    if len(groups) < LEAST_GROUPS:
        raise UserError(
            f"{root}: has {len(groups)} different training images, too few to split off others; "
            "label more images, or give the folder splits (train, val, test)"
        )
    members = list(groups.values())
    keys = [min(one.path.relative_to(root).as_posix() for one in group) for group in members]
    names = [set[str]().union(*(one.names for one in group)) for group in members]
    held_out_groups = held_out(keys, [labels or {NO_BOX} for labels in names], share, seed)
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for index, group in enumerate(members):
        parts[index in held_out_groups].extend(group)
    return parts


def _leaks(
    splits: dict[SplitName, list[Sample]], group_of: dict[Path, str]
) -> list[tuple[Path, Path]]:
    first_of: dict[str, tuple[SplitName, Path]] = {}
    leaks = []
    for split, samples in splits.items():
        for sample in samples:
            other = first_of.setdefault(group_of[sample.path], (split, sample.path))
            if other[0] != split:
                leaks.append((other[1], sample.path))
    return leaks


def _video_like(samples: Sequence[Sample]) -> tuple[str, int] | None:
    """Return the most frequent beginning of numbered names and its count, or None if it is rare."""
    beginnings = Counter(
        match[1] for sample in samples if (match := NUMBERED.fullmatch(sample.path.stem))
    )
    name, count = max(beginnings.items(), key=lambda item: item[1], default=("", 0))
    return (name, count) if count >= FRAMES else None
