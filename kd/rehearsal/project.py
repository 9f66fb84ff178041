"""Project in which rehearsals run: ``results/rehearsals/project``, with separate data.

Its paths are those of a project, so trainings run in it unchanged. Its data sets are links to those
on this machine, or stand-ins for those that are absent. Nothing in it is a result of a study.
"""

import os
import shutil
import time
from contextlib import chdir
from pathlib import Path

import yaml

from kd.common.errors import UserError
from kd.common.fetch import FOLDER
from kd.common.files import locked, read_json, write_json, write_text
from kd.data.builtin.shapes import generate
from kd.data.check import check
from kd.data.entry import Dataset
from kd.data.stand_in.writing import folder_of, read_marker, write_stand_in
from kd.resources.rehearsals import PROJECT

DEFAULTS = Path("configs", "default.yaml")


def root_of(name: str) -> str:
    """Return the root of a data set in the rehearsals' project."""
    return f"data/{name}"


def report_of(name: str) -> Path:
    """Return the check report of a data set, which is written last, in the rehearsals' project."""
    return Path("results", "checks", f"{name}.json")


def source_of(name: str, dataset: Dataset, images: int | None) -> dict[str, object]:
    """Return the origin of a data set's images: the data set itself, or its stand-in.

    ``images``: number of training images that a stand-in lists; None for the data set's number.
    """
    if dataset.is_present():
        return {"dataset": name, "stand_in": False, "entry": dataset.model_dump(mode="json")}
    entry = dataset.model_dump(mode="json")
    return {"dataset": name, "stand_in": True, "images": images, "entry": entry}


def prepare(name: str, dataset: Dataset, images: int | None = None) -> str:
    """Link or write a data set of the rehearsals' project, and check it; return a line about it.

    Prepared data are used again as long as their source is the same. UserError if the data have
    errors, as a stand-in of few images may: a class without a box. A second process waits.
    """
    with locked(PROJECT / "data" / f".{name}.lock"):
        return _prepare(name, dataset, images)


def _prepare(name: str, dataset: Dataset, images: int | None) -> str:
    started, source = time.monotonic(), source_of(name, dataset, images)
    record = PROJECT / "data" / f"{name}.json"
    if _is_prepared(name, dataset) and read_json(record) == source:
        return f"{name}: {_describe(source)}; prepared already"
    (PROJECT / report_of(name)).unlink(missing_ok=True)
    _link(PROJECT / DEFAULTS, DEFAULTS)
    _link(PROJECT / root_of(name), _images(name, dataset, images))
    entry = dataset.model_dump(mode="json", exclude_none=True, exclude={"fetch"})
    text = yaml.safe_dump({**entry, "root": root_of(name)}, sort_keys=False)
    write_text(PROJECT / "configs" / "datasets" / f"{name}.yaml", text)
    with chdir(PROJECT):
        report = check(name, dataset.model_copy(update={"root": root_of(name)}))
        if report.errors:
            remedy = "raise --images" if source["stand_in"] else f"run `kd check {name}`"
            raise UserError(f"data set '{name}' has errors: {report.errors[0]}; {remedy}")
        write_json(report_of(name), report.to_json())
    write_json(record, source)
    return f"{name}: {_describe(source)}; prepared in {time.monotonic() - started:.0f} s"


def _is_prepared(name: str, dataset: Dataset) -> bool:
    """Return True if a data set was prepared, and its images were not deleted since."""
    linked = dataset.model_copy(update={"root": str(PROJECT / root_of(name))})
    paths = [path for split in dataset.splits for path in linked.listings(split)]
    paths += [PROJECT / "data" / f"{name}.json", PROJECT / report_of(name)]
    return all(path.exists() for path in paths)


def link_checkpoints() -> None:
    """Let the rehearsals' project use the downloaded weights of published detectors."""
    if FOLDER.is_dir():
        _link(PROJECT / FOLDER, FOLDER)


def is_stand_in(name: str) -> bool:
    """Return True if rehearsals use a stand-in for a data set, which must be prepared."""
    return read_json(PROJECT / "data" / f"{name}.json")["stand_in"]


def _describe(source: dict[str, object]) -> str:
    if not source["stand_in"]:
        return "rehearsals use the data set on this machine"
    marker = read_marker((PROJECT / root_of(str(source["dataset"]))).resolve())
    return f"absent, so rehearsals use a stand-in of {marker['images']} images"


def _images(name: str, dataset: Dataset, images: int | None) -> Path:
    """Return the folder with a data set's images; generate them or write a stand-in if absent."""
    if dataset.generate:
        generate(dataset.generate, Path(dataset.root))
    if dataset.is_present():
        return Path(dataset.root)
    folder = folder_of(f"{name}-{images}" if images else name)
    write_stand_in(name, dataset, folder, longest=images)
    return folder


def _link(link: Path, target: Path) -> None:
    """Make ``link`` a symbolic link to ``target``, in place of an earlier one."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
