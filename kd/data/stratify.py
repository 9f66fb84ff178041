"""Choice of images to hold out, by iterative stratification of several labels per image.

Source: Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
2011, algorithm 1. The rarest label is divided first. Each image goes to the part that lacks most
images of the label.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence


def held_out(keys: Sequence[str], labels: Sequence[set[str]], share: float, seed: int) -> set[int]:
    """Return the positions of the held-out images, about ``share`` of all and of each label.

    ``keys``: a different name for each image; its hash with the seed is the order in which images
    are divided. ``labels``: at least one for each image. A label of one image is not held out. A
    label of more images is in both parts unless that would take the last image of another label.
    With two or more images no part is empty.
    """
    order = sorted(range(len(keys)), key=lambda index: _hash(seed, keys[index]))
    parts = _divided(order, labels, share)
    if len(keys) > 1 and not all(parts):
        full, empty = sorted(parts, key=len, reverse=True)
        _move(next(index for index in order if index in full), full, empty)
    for label in sorted({label for of_image in labels for label in of_image}):
        _share_label(label, order, labels, parts)
    return parts[1]


def _hash(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed} {key!r}".encode()).digest()


def _divided(
    order: Sequence[int], labels: Sequence[set[str]], share: float
) -> tuple[set[int], set[int]]:
    """Return the kept and the held-out positions of algorithm 1."""
    left = Counter(label for index in order for label in labels[index])
    held = {label: min(max(share * count, 1), count - 1) for label, count in left.items()}
    missing = ({label: left[label] - held[label] for label in held}, held)
    missing_in_all = [(1 - share) * len(order), share * len(order)]
    parts: tuple[set[int], set[int]] = (set(), set())
    undecided = dict.fromkeys(order)
    while undecided:
        rarest = min((count, label) for label, count in left.items() if count)[1]
        for index in [index for index in undecided if rarest in labels[index]]:
            part = max((0, 1), key=lambda p: (missing[p][rarest], missing_in_all[p], -p))
            parts[part].add(index)
            missing_in_all[part] -= 1
            for label in labels[index]:
                missing[part][label] -= 1
                left[label] -= 1
            del undecided[index]
    return parts


def _share_label(
    label: str,
    order: Sequence[int],
    labels: Sequence[set[str]],
    parts: tuple[set[int], set[int]],
) -> None:
    """Move an image so that a label of several images is in both parts, if one can be moved."""
    members = [index for index in order if label in labels[index]]
    for source, target in (parts, parts[::-1]):
        if len(members) < 2 or any(index in target for index in members):
            continue
        counts = Counter(other for index in source for other in labels[index])
        movable = (index for index in members if all(counts[one] > 1 for one in labels[index]))
        if (index := next(movable, None)) is not None:
            _move(index, source, target)


def _move(index: int, source: set[int], target: set[int]) -> None:
    source.remove(index)
    target.add(index)
