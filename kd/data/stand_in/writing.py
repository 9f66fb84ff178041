"""Writing of stand-in data: files in the format of a data set that is not on this machine.

A stand-in has the layout, the length and the statistics of a data set, so a composed configuration
reads it after its ``data_root`` is replaced. Its photographs are drawn. A few of them are the files
of all images, by hard links. The same seed writes the same files, with the same versions of NumPy
and Pillow.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd.common.errors import UserError
from kd.common.files import locked, read_json, write_json
from kd.common.progress import progress
from kd.common.results import RESULTS
from kd.data.entry import CocoSplit, Dataset
from kd.data.stand_in import coco_files, voc_files
from kd.data.stand_in.photographs import PHOTOGRAPHS, draw_photograph
from kd.data.stand_in.scenes import Scenes, draw_scenes
from kd.data.stand_in.statistics import COCO, LENGTHS, OTHER_LENGTH, VOC

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
"""Raise it when the files change, so that every stand-in is written again."""
MARKER = "stand-in.json"
FOLDER = RESULTS / "rehearsals" / "data"
POOL = "photographs"
IDENTITIES = 600_000  # COCO's image ids are below; VOC's names repeat no number


@dataclass(frozen=True)
class Source:
    """One annotation file (COCO) or image set (VOC) of a data set, which splits may share."""

    name: str
    images: str
    """Folder of the images, relative to the root."""
    length: int


def folder_of(name: str) -> Path:
    """Return the folder of the stand-in of the data set ``name``."""
    return FOLDER / name


def write_stand_in(
    name: str, dataset: Dataset, folder: Path, seed: int = 0, longest: int | None = None
) -> Dataset:
    """Write the stand-in of a data set to ``folder`` unless it exists; return its entry.

    ``longest``: the most images of an annotation file or image set; by default, the published
    number of COCO and VOC, and 300 for others. A stand-in of other settings in the folder is
    replaced. A second process waits until the first one has written it. UserError for a generated
    data set, an entry without ``classes``, or a folder with other files.
    """
    where = f"configs/datasets/{name}.yaml"
    if dataset.generate:
        raise UserError(
            f"{where}: a generated data set needs no stand-in; run `kd generate {name}`"
        )
    if dataset.classes is None:
        raise UserError(
            f"{where}: key 'classes' is missing, so the stand-in has no class names; list them"
        )
    _require_inside(where, _sources(dataset, longest))
    stand_in = dataset.model_copy(update={"root": str(folder)})
    settings = _settings(name, dataset, seed, longest)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{folder.name}.lock"):
            if not _is_written(folder, settings):
                _write(name, stand_in, folder, settings)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the stand-in: {error}") from None
    return stand_in


def read_marker(folder: Path) -> dict[str, Any]:
    """Return the marker of a complete stand-in; UserError if the folder has none.

    It states ``stand_in_for``, ``version``, ``images`` and ``boxes`` in total, ``splits`` with both
    numbers by annotation file or image set, and the settings.
    """
    marker = read_json(folder / MARKER)
    if not isinstance(marker, dict) or "stand_in_for" not in marker:
        raise UserError(f"{folder / MARKER}: not the marker of a stand-in; delete the folder")
    return marker


def _settings(name: str, dataset: Dataset, seed: int, longest: int | None) -> dict[str, Any]:
    """Return the settings that determine the files."""
    keys = {"format", "train", "test", "val", "classes"}
    entry = dataset.model_dump(mode="json", include=keys)
    return {
        "stand_in_for": name,
        "version": VERSION,
        "seed": seed,
        "longest": longest,
        "entry": entry,
    }


def _is_written(folder: Path, settings: dict[str, Any]) -> bool:
    """Return True for a complete stand-in of these settings; UserError for other files."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    try:
        marker = read_marker(folder)
    except UserError:
        raise UserError(
            f"{folder}: contains files that are not a stand-in; move them, or name another folder"
        ) from None
    return settings.items() <= marker.items()


def _write(name: str, stand_in: Dataset, folder: Path, settings: dict[str, Any]) -> None:
    """Write all files to a temporary folder and rename it; the marker is written last."""
    temporary = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)  # of an interrupted process
    write_source = _write_coco if stand_in.format == "coco" else _write_voc
    sources = _sources(stand_in, settings["longest"])
    rng = np.random.default_rng([settings["seed"], len(sources)])
    identities = rng.permutation(IDENTITIES)[: sum(source.length for source in sources)] + 1
    splits = {}
    for position, source in enumerate(sources):
        rng = np.random.default_rng([settings["seed"], len(sources), position])
        ids, identities = np.split(identities, [source.length])
        number = min(PHOTOGRAPHS, source.length)
        pool = _draw_pool(rng, number, temporary / POOL / str(position), stand_in.format, name)
        scenes = write_source(rng, temporary, stand_in, source, pool, ids)
        splits[source.name] = {"images": source.length, "boxes": len(scenes.owners)}
    totals = {key: sum(split[key] for split in splits.values()) for key in ("images", "boxes")}
    write_json(temporary / MARKER, {**settings, **totals, "splits": splits})
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(temporary, folder)


def _sources(dataset: Dataset, longest: int | None) -> list[Source]:
    """Return the annotation files or image sets of all splits, each once."""
    folders: dict[str, str] = {}
    for split in dataset.splits:
        entry = getattr(dataset, split)
        if isinstance(entry, CocoSplit):
            folders[entry.annotations] = entry.images
        else:
            folders |= {name: str(Path(name).parent / "JPEGImages") for name in entry}
    lengths = {name: LENGTHS.get(name, OTHER_LENGTH) for name in folders}
    return [
        Source(name, images, min(lengths[name], longest or lengths[name]))
        for name, images in folders.items()
    ]


def _require_inside(where: str, sources: list[Source]) -> None:
    """Raise UserError for a path that leads out of the folder, where real data may be."""
    for path in [path for source in sources for path in (source.name, source.images)]:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise UserError(
                f"{where}: '{path}' leads out of the data set's folder, so a stand-in cannot "
                "replace it; write it relative to 'root'"
            )


@dataclass(frozen=True)
class Pool:
    """Distinct photographs of a source: their files, and their width and height (P, 2)."""

    files: list[Path]
    sizes: "NDArray[np.int64]"


def _draw_pool(rng: np.random.Generator, count: int, folder: Path, form: str, name: str) -> Pool:
    """Draw ``count`` photographs of a source; the last one of COCO's is gray."""
    folder.mkdir(parents=True)
    sides = (COCO if form == "coco" else VOC).sides
    sizes = [sides[index % len(sides)] for index in range(count)]
    files = [folder / f"{index:03d}.jpg" for index in range(count)]
    for file, size in progress(zip(files, sizes, strict=True), count, f"drawing images of {name}"):
        is_gray = form == "coco" and file == files[-1]
        file.write_bytes(draw_photograph(rng, *size, is_gray))
    return Pool(files, np.array(sizes))


def _write_coco(
    rng: np.random.Generator,
    root: Path,
    dataset: Dataset,
    source: Source,
    pool: Pool,
    ids: "NDArray[np.int64]",
) -> Scenes:
    categories = coco_files.categories_of(dataset.classes or [])
    weights = [weight for _, weight in categories.values()]
    scenes = draw_scenes(rng, source.length, COCO, pool.sizes, weights)
    names = [coco_files.file_name(identity) for identity in ids.tolist()]
    _link_images(root / source.images, names, scenes, pool)
    path = root / source.name
    path.parent.mkdir(parents=True, exist_ok=True)
    coco_files.write_annotations(path, categories, scenes, ids, rng)
    return scenes


def _write_voc(
    rng: np.random.Generator,
    root: Path,
    dataset: Dataset,
    source: Source,
    pool: Pool,
    ids: "NDArray[np.int64]",
) -> Scenes:
    weights = voc_files.weights_of(dataset.classes or [])
    scenes = draw_scenes(rng, source.length, VOC, pool.sizes, [*weights.values()])
    folder, image_set = root / Path(source.name).parent, Path(source.name).name
    names = sorted(voc_files.image_name(folder.name, number) for number in ids.tolist())
    _link_images(root / source.images, [f"{image}.jpg" for image in names], scenes, pool)
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    voc_files.write_pages(folder, names, [*weights], scenes)
    listing = folder / "ImageSets" / "Main" / f"{image_set}.txt"
    listing.write_text("".join(f"{image}\n" for image in names), encoding="utf-8")
    return scenes


def _link_images(folder: Path, names: list[str], scenes: Scenes, pool: Pool) -> None:
    """Link the name of each image to its photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [str(file) for file in pool.files]
    for image, photograph in zip(names, scenes.photographs.tolist(), strict=True):
        os.link(files[photograph], f"{folder}/{image}")
