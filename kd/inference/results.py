"""Folder of ``kd infer``: pictures, a log of finished images, and COCO files at the end.

| file | content |
|---|---|
| ``infer.json`` | the detector, the score, the folder of the images, and the machine |
| ``progress.jsonl`` | a line for each finished image or frame, from which a later start resumes |
| ``images.json`` | COCO's ``images`` and ``categories``; frames of videos name their video |
| ``detections.json`` | COCO's results: ``image_id``, ``category_id``, ``bbox``, ``score`` |
| ``pictures/``, ``videos/`` | images and videos with their detections |
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple

from kd.common.errors import UserError
from kd.common.files import locked, read_json, replacing, write_json
from kd.evaluation.stored import stored_boxes
from kd.inference.detector import ImageDetections
from kd.inference.sources import RECORD, Sources

PROGRESS, LOCK = "progress.jsonl", ".lock"
IMAGES, DETECTIONS = "images.json", "detections.json"
IDENTITY = {
    "weights_sha256": "another detector",
    "score": "another score",
    "root": "images of another folder",
}
"""Keys of ``infer.json`` that a later start must repeat, and the difference in a message."""
FIRST_CATEGORY = 1
"""COCO's categories begin with 1: label i is category i + 1."""


class Totals(NamedTuple):
    """Numbers of images, frames of videos included, and of detections in the COCO files."""

    images: int
    detections: int


class ResultsFolder:
    """Folder of one ``kd infer`` command, which a later start of the same command resumes."""

    def __init__(self, folder: Path, sources: Sources, record: dict[str, Any]) -> None:
        """Open a folder as ``require_usable`` does."""
        self.folder, self.sources = folder, sources
        self.record = {**record, "root": str(sources.root)}
        require_usable(folder, sources, record)
        self._open = ExitStack()
        try:
            self._open.enter_context(locked(folder / LOCK, waits=False))
        except BlockingIOError:
            raise UserError(f"{folder}: another `kd infer` writes to this folder") from None
        write_json(folder / RECORD, self.record)
        self._writing = Lock()
        self._names = {sources.name(path): path for path in (*sources.images, *sources.videos)}
        self._pictures = _picture_names(sources)
        self._finished = self._resume()
        stream = open(folder / PROGRESS, "a", encoding="utf-8")  # noqa: SIM115
        self._stream = self._open.enter_context(stream)

    def __enter__(self) -> "ResultsFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def is_finished(self, path: Path) -> bool:
        """Return True if an earlier start has finished an image or video, unchanged since."""
        return self.sources.name(path) in self._finished

    def picture(self, path: Path) -> Path:
        """Return the path of the picture of an image or video."""
        return self.folder / self._pictures[path]

    def add_image(self, path: Path, size: tuple[int, int], detections: ImageDetections) -> None:
        """Record the detections in an image of a size, width and height, after its picture."""
        self._write(self._line(path, size, detections) | {"stamp": stamp(path)})

    def add_frame(
        self,
        path: Path,
        number: int,
        seconds: float,
        size: tuple[int, int],
        detections: ImageDetections,
    ) -> None:
        """Record the detections in a frame of a video; ``number`` counts from 0."""
        line = self._line(path, size, detections)
        self._write(line | {"frame": number, "seconds": round(seconds, 3)})

    def end_video(self, path: Path) -> None:
        """Record that a video is finished."""
        self._write({"file": self.sources.name(path), "stamp": stamp(path)})

    def write_coco(self, classes: Sequence[str]) -> Totals:
        """Write ``images.json`` and ``detections.json`` of all finished sources of the command."""
        self._stream.flush()
        counts = dict.fromkeys(self._names, 0)
        for line in self._lines():
            counts[line["file"]] += "detections" in line
        next_ids, total = {}, 0
        for name, count in counts.items():
            next_ids[name], total = total + 1, total + count
        videos = {self.sources.name(path): i for i, path in enumerate(self.sources.videos, 1)}
        images: list[dict[str, Any]] = []
        detections = 0
        with (
            replacing(self.folder / DETECTIONS) as temporary,
            open(temporary, "w", encoding="utf-8") as stream,
        ):
            stream.write("[")
            for line in self._lines():
                if "detections" not in line:
                    continue
                identity = next_ids[line["file"]]
                next_ids[line["file"]] += 1
                images.append(_image(identity, line, videos))
                for label, score, *box in line["detections"]:
                    entry = {
                        "image_id": identity,
                        "category_id": label + FIRST_CATEGORY,
                        "bbox": box,
                        "score": score,
                    }
                    stream.write((",\n " if detections else "\n ") + json.dumps(entry))
                    detections += 1
            stream.write("\n]\n")
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, FIRST_CATEGORY)]
        content: dict[str, Any] = {"info": {"root": str(self.sources.root)}}
        if videos:
            content["videos"] = [
                {"id": i, "file_name": name} for name, i in videos.items() if counts[name]
            ]
        content |= {"images": sorted(images, key=_identity), "categories": categories}
        write_json(self.folder / IMAGES, content)
        return Totals(len(images), detections)

    def finish(self, facts: dict[str, Any]) -> None:
        """Add facts of the finished command to ``infer.json``."""
        write_json(self.folder / RECORD, self.record | facts)

    def _line(
        self, path: Path, size: tuple[int, int], detections: ImageDetections
    ) -> dict[str, Any]:
        boxes = stored_boxes(detections.boxes).tolist()
        rows = zip(detections.labels.tolist(), detections.scores.tolist(), boxes, strict=True)
        return {
            "file": self.sources.name(path),
            "width": size[0],
            "height": size[1],
            "detections": [[label, score, *box] for label, score, box in rows],
        }

    def _write(self, line: dict[str, Any]) -> None:
        with self._writing:  # threads write, too
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the command's sources that are finished."""
        yield from (line for line in _read_lines(self.folder) if line["file"] in self._names)

    def _resume(self) -> set[str]:
        """Remove the lines of files that are not finished; return the finished names.

        A file is not finished if it has changed since, if its picture is absent, or if it is a
        video that was interrupted.
        """
        path = self.folder / PROGRESS
        if not path.exists():
            return set()
        finished = {line["file"] for line in _read_lines(self.folder) if self._is_current(line)}
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
            for line in _read_lines(self.folder):
                if line["file"] in finished:
                    stream.write(json.dumps(line) + "\n")
        return finished & self._names.keys()

    def _is_current(self, line: dict[str, Any]) -> bool:
        """Return True for the last line of a file that has not changed since."""
        path = self.sources.root / line["file"]
        if "stamp" not in line or not path.exists() or line["stamp"] != stamp(path):
            return False
        return path not in self._pictures or self.picture(path).exists()


def stamp(path: Path) -> list[int]:
    """Return size and time of a file, by which a change is noticed."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def require_usable(folder: Path, sources: Sources, record: dict[str, Any]) -> None:
    """Raise a UserError if a folder has other files, or results of another command.

    ``record``: the first keys of ``infer.json``.
    """
    record = {**record, "root": str(sources.root)}
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; give a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / RECORD).exists():
        raise UserError(
            f"{folder}: contains other files than those of `kd infer`; give an empty or new folder"
        )
    earlier = read_json(folder / RECORD)
    for key, difference in IDENTITY.items():
        if earlier.get(key) != record[key]:
            raise UserError(
                f"{folder}: contains results of {difference} ({key}: {earlier.get(key)}, now "
                f"{record[key]}); give another folder, or delete this one"
            )


def _picture_names(sources: Sources) -> dict[Path, str]:
    """Return the names of all pictures: those of their sources with the suffix jpg or mp4.

    Sources that differ in their suffix alone have both suffixes.
    """
    names: dict[Path, str] = {}
    for kind, suffix, paths in (
        ("pictures", ".jpg", sources.images),
        ("videos", ".mp4", sources.videos),
    ):
        stems = [Path(sources.name(path)).with_suffix("").as_posix() for path in paths]
        counts = Counter(stems)
        for path, stem in zip(paths, stems, strict=True):
            name = stem if counts[stem] == 1 else sources.name(path)
            names[path] = f"{kind}/{name}{suffix}"
    return names


def _read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of ``progress.jsonl``, without an incomplete last one."""
    with open(folder / PROGRESS, encoding="utf-8") as stream:
        for line in stream:
            if line.endswith("\n"):
                yield json.loads(line)


def _image(identity: int, line: dict[str, Any], videos: dict[str, int]) -> dict[str, Any]:
    """Return COCO's entry of an image or a frame."""
    size = {"width": line["width"], "height": line["height"]}
    entry = {"id": identity, "file_name": line["file"], **size}
    if "frame" in line:
        place = {"frame_id": line["frame"], "seconds": line["seconds"]}
        entry |= {"video_id": videos[line["file"]], **place}
    return entry


def _identity(image: dict[str, Any]) -> int:
    return image["id"]
