"""Page of published detectors, ``docs/reference/zoo.md``: ``python -m docs.build.zoo.page``."""

from collections.abc import Iterator
from pathlib import Path

from docs.build.markdown import grid
from kd.common.files import write_text
from kd.config.library import Library
from kd.config.run import Run
from kd.config.study_parts import Pair, Study, Table, TeacherSource
from kd.config.zoo.entries import PublishedDetectors

PAGE = Path("docs/reference/zoo.md")
SCALE = "paper"
OPTIONS: tuple[TeacherSource, ...] = ("zoo_any_lr", "zoo")
WHERE = "the page of published detectors"
INTRODUCTION = """# Published detectors

This page lists the detectors of mmdet's model zoo that predict as a detector of this project does,
and the teachers of the studies that they serve at scale `paper`.
[Published teachers](../how-to/published-teachers.md) explains their use. `python -m
docs.build.zoo.page` writes the page from `configs/zoo.yaml` and from mmdet's index, which its
package contains. `tests/config/zoo/test_fit.py` builds each detector from mmdet's configuration and
compares its weights, predictions, losses, images and schedule with those of this project."""
TEACHERS = """## Teachers of the studies

With `teachers=zoo` a teacher is imported if architecture, data, images and schedule are equal. With
`teachers=zoo_any_lr` the learning rate may differ. All other teachers are trained.
Column "published detector" has its name and the AP on COCO's validation images that mmdet reports,
or the nearest ones with their differences. A pair can name any of them with
`checkpoint: {zoo: NAME}`."""
DETECTORS = """## Detectors

"Differences" lists those of the training from that of the schedule. A remark in parentheses states
initial weights, which do not count as a difference."""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(Library()))


def page(library: Library) -> str:
    """Return the page."""
    detectors = PublishedDetectors(library)
    return (
        "\n\n".join(
            [
                INTRODUCTION,
                TEACHERS,
                grid(
                    [
                        "studies",
                        "teacher",
                        "data set",
                        "schedule",
                        "imported with",
                        "published detector",
                    ],
                    _teachers(library, detectors),
                ),
                DETECTORS,
                grid(
                    ["name", "detector", "backbone", "schedule", "AP", "differences"],
                    _detectors(detectors),
                ),
            ]
        )
        + "\n"
    )


def _detectors(detectors: PublishedDetectors) -> Iterator[list[str]]:
    for name, entry in detectors.entries.items():
        remark = f"({entry.remark})" if entry.remark else ""
        yield [
            *(f"`{text}`" for text in (name, entry.detector, entry.backbone, entry.schedule)),
            _ap(detectors, name),
            " ".join(filter(None, (entry.differs, remark))),
        ]


def _ap(detectors: PublishedDetectors, name: str) -> str:
    ap = detectors.line(name).ap
    return "" if ap is None else f"{ap:.1f}"


def _teachers(library: Library, detectors: PublishedDetectors) -> Iterator[list[str]]:
    """Yield a line for each teacher that some study trains or imports."""
    scale = library.scale(SCALE, WHERE)
    for run, studies in sorted(_trained(library).items(), key=lambda item: item[0].name):
        option, text = "", detectors.nearest(run)
        for teachers in OPTIONS:
            equal = detectors.equal(run, scale, teachers)
            if equal is not None and equal.zoo is not None:
                option, text = f"`{teachers}`", f"`{equal.zoo}`, AP {_ap(detectors, equal.zoo)}"
        yield [
            ", ".join(f"`{study}`" for study in studies),
            f"`{run.model}`",
            f"`{run.dataset}`",
            f"`{run.schedule}`",
            option,
            text,
        ]


def _trained(library: Library) -> dict[Run, list[str]]:
    """Return the teachers that studies train, without configuration, with the names of studies."""
    teachers: dict[Run, list[str]] = {}
    for name in library.names("studies"):
        study: Study = library.study(name, WHERE)
        for table in study.tables.values():
            for pair in table.pairs:
                for run in _runs(table, pair):
                    studies = teachers.setdefault(run, [])
                    if name not in studies:
                        studies.append(name)
    return teachers


def _runs(table: Table, pair: Pair) -> Iterator[Run]:
    if pair.teacher is None or pair.checkpoint is not None:
        return
    for detector in [pair.teacher_detector] if pair.teacher_detector else table.detectors:
        for schedule in [pair.teacher_schedule] if pair.teacher_schedule else table.schedules:
            yield Run(SCALE, table.dataset, schedule, detector, pair.teacher, seed=0)


if __name__ == "__main__":
    main()
