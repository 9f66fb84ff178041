"""Entries of ``configs/zoo.yaml``: published detectors of mmdet that equal a detector here."""

from difflib import get_close_matches
from functools import cached_property

from kd.common.errors import UserError
from kd.common.schema import read_yaml
from kd.config.library import Library
from kd.config.parts import Scale, Schedule, ZooEntry
from kd.config.run import Run
from kd.config.schedules import KEYS
from kd.config.study_parts import Checkpoint, TeacherSource
from kd.config.zoo.index import IndexLine, every_line, lines_in

FILE = "zoo.yaml"
DATASET = "coco2017"
"""Data set that all entries were trained on."""
UNCOMPARED = ("checkpoint_steps",)
"""Keys of a schedule that weights do not depend on."""
NEAREST = 3
"""Names that an error suggests."""


class PublishedDetectors:
    """Entries of a library by name, and mmdet's index of them."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.where = f"{library.root / FILE}"

    @cached_property
    def entries(self) -> dict[str, ZooEntry]:
        """The entries by name."""
        return {name: entry for name, (_, entry) in self._entries.items()}

    @cached_property
    def _entries(self) -> dict[str, tuple[str, ZooEntry]]:
        """The folders of mmdet's configurations with the entries, by name."""
        path = self.library.root / FILE
        return {
            name: (folder, ZooEntry.parse(settings, f"{path}: {folder}.{name}"))
            for folder, by_name in read_yaml(path).items()
            for name, settings in by_name.items()
        }

    def line(self, name: str) -> IndexLine:
        """Return the line of mmdet's index for an entry."""
        lines = lines_in(self._entries[name][0])
        if name not in lines:
            raise UserError(
                f"{self.where}: mmdet's index has no '{name}'; install the version of mmdet in "
                "requirements.lock"
            )
        return lines[name]

    def check_scale(self, teachers: TeacherSource, scale: Scale, name: str) -> None:
        """Raise UserError if teachers of the zoo are asked for at a scale that imports none."""
        if teachers != "trained" and not scale.checkpoints:
            raise UserError(
                f"teachers: {teachers}: scale '{name}' imports no published weights "
                "('checkpoints: false' of its file), because its networks are narrower; leave the "
                "option out, or choose a scale with whole networks, such as 'paper'"
            )

    def entry(self, name: str, where: str) -> ZooEntry:
        """Return an entry; UserError with the nearest names if there is none."""
        if name in self.entries:
            return self.entries[name]
        nearest = ", ".join(get_close_matches(name, sorted(self.entries), n=NEAREST, cutoff=0.0))
        if any(line.name == name for line in every_line()):
            raise UserError(
                f"{where}: no detector of this project equals '{name}' of mmdet's model zoo; "
                f"nearest: {nearest}; all are in docs/reference/zoo.md"
            )
        raise UserError(
            f"{where}: mmdet's model zoo has no '{name}'; nearest: {nearest}; all are in "
            "docs/reference/zoo.md"
        )

    def checkpoint(self, name: str, run: Run, where: str) -> Checkpoint:
        """Return the weights of an entry for a run.

        UserError if the run has another architecture, or classes on which no entry was trained.
        """
        self.check_architecture(name, run, where)
        ours, theirs = (self.library.dataset(data, where) for data in (run.dataset, DATASET))
        if ours.classes != theirs.classes:
            raise UserError(
                f"{where}: '{name}' of mmdet's model zoo has the {len(theirs.classes or [])} "
                f"classes of data set '{DATASET}', and the run has those of '{run.dataset}'; "
                "train the teacher"
            )
        return self.weights(name)

    def check_architecture(self, name: str, run: Run, where: str) -> None:
        """Raise UserError if an entry does not exist, or has another architecture than a run."""
        entry = self.entry(name, where)
        if (entry.detector, entry.backbone) != (run.detector, run.student):
            raise UserError(
                f"{where}: '{name}' of mmdet's model zoo is detector '{entry.detector}' on "
                f"backbone '{entry.backbone}', not '{run.detector}' on '{run.student}'; "
                f"{self._others(run)}"
            )

    def weights(self, name: str) -> Checkpoint:
        """Return the address and the digest of an entry's weights."""
        line = self.line(name)
        without = self.entries[name].without
        return Checkpoint(source=line.address, sha256=line.sha256, without=without, zoo=name)

    def _others(self, run: Run) -> str:
        same = self.of(run.detector, run.student)
        return f"name one of {', '.join(same)}" if same else "no entry has that architecture"

    def of(self, detector: str, backbone: str) -> list[str]:
        """Return the names of the entries of an architecture."""
        return [
            name
            for name, entry in self.entries.items()
            if (entry.detector, entry.backbone) == (detector, backbone)
        ]

    def equal(self, run: Run, scale: Scale, teachers: TeacherSource) -> Checkpoint | None:
        """Return the entry that a training would equal, by its name; None without one.

        Architecture, data, images and schedule are the same; with ``zoo_any_lr`` the learning rate
        may differ. Initial weights may have another source.
        """
        is_changed = scale.detectors.get(run.detector) or run.detector in scale.input_sizes
        if teachers == "trained" or run.dataset != DATASET or is_changed:
            return None
        differences = {
            name: self.differences(name, run.schedule)
            for name in self.of(run.detector, run.student)
        }
        if teachers == "zoo_any_lr":
            differences = {name: _without_rate(clauses) for name, clauses in differences.items()}
        equal = [name for name, clauses in differences.items() if not clauses]
        return Checkpoint(zoo=equal[0]) if equal else None

    def other_rate(self, run: Run, teachers: TeacherSource) -> str:
        """Return a clause on the learning rate of a teacher that ``zoo_any_lr`` imported."""
        name = (run.config.get("published_checkpoint") or {}).get("zoo")
        if name is None or teachers != "zoo_any_lr":
            return ""
        differences = self.differences(name, run.schedule)
        is_rate = differences and not _without_rate(differences)
        return f"teacher {name} was trained with {differences[0]}" if is_rate else ""

    def nearest(self, run: Run) -> str:
        """Return the published detectors of a run's architecture, with what differs in each."""
        if run.dataset != DATASET:
            return f"no published detectors of data set '{run.dataset}'"
        names = self.of(run.detector, run.student)
        differences = {name: self.differences(name, run.schedule) for name in names}
        near = sorted(names, key=lambda name: len(differences[name]))[:NEAREST]
        described = [f"{name} has {', '.join(differences[name])}" for name in near]
        return "; ".join(described) or "no published detector of this architecture"

    def differences(self, name: str, schedule: str) -> list[str]:
        """Return clauses on what the training of an entry has in place of a schedule."""
        entry = self.entries[name]
        ours = self.library.schedule(schedule, self.where)
        theirs = self.library.schedule(entry.schedule, f"{self.where}: {name}")
        return [*_changes(ours, theirs), *([entry.differs] if entry.differs else [])]


def _changes(ours: Schedule, theirs: Schedule) -> list[str]:
    return [
        f"{key} {_text(getattr(theirs, key))}"
        for key in KEYS
        if key not in UNCOMPARED and getattr(ours, key) != getattr(theirs, key)
    ]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _without_rate(clauses: list[str]) -> list[str]:
    return [clause for clause in clauses if not clause.startswith("lr ")]
