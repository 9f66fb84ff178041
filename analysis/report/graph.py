"""The study as a graph: data, teachers, students and tables, a node for all seeds of a training."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from analysis.names import backbone_name, method_name
from analysis.report.records import ORDER, Record
from kd.settings.classifiers import ClassifierRun
from kd.settings.library import Library
from kd.settings.plan import Plan
from kd.settings.run import Run

LEVELS = ("Data", "Teachers", "Students", "Tables")
NODE_WIDTH, NODE_HEIGHT, ROW, GAP, TOP = 216, 26, 32, 64, 34
"""Pixels; ``ROW`` from one node to the next below, ``GAP`` between levels, ``TOP`` for headings."""
LABEL_LENGTH = 31
"""Characters that a node has room for beside its count."""


@dataclass
class Node:
    """All runs of one role, detector, backbone and method; or a data set, or a table."""

    label: str
    level: int
    before: dict[str, None] = field(default_factory=dict)
    """Keys of the nodes that it is made from."""
    kinds: list[str] = field(default_factory=list)
    """The state of each of its runs."""
    y: float = 0

    @property
    def x(self) -> int:
        return self.level * (NODE_WIDTH + GAP)

    @property
    def short(self) -> str:
        return self.label if len(self.label) <= LABEL_LENGTH else self.label[: LABEL_LENGTH - 1] + "\u2026"

    @property
    def count(self) -> str:
        """Runs done, of all."""
        return f"{self.kinds.count('done')}/{len(self.kinds)}" if self.kinds else ""

    @property
    def kind(self) -> str:
        """Its colour: done where all runs are; else of what is at work, has failed or waits."""
        if self.kinds and set(self.kinds) == {"done"}:
            return "done"
        return next((kind for kind in ("failed", "running", "queued", "todo") if kind in self.kinds), "")

    @property
    def told(self) -> str:
        """Its runs by state, in words."""
        words = {"todo": "to come"}
        counted = {kind: self.kinds.count(kind) for kind in ORDER}
        return ", ".join(f"{n} {words.get(kind, kind)}" for kind, n in counted.items() if n)


@dataclass(frozen=True)
class Graph:
    """Nodes with their places, edges between them, and the size of the whole in pixels."""

    nodes: dict[str, Node]
    edges: list[tuple[Node, Node]]
    width: int
    height: int


def graph(planned: Plan, records: Mapping[str, Record], library: Library) -> Graph:
    """Return the graph of a plan."""
    nodes: dict[str, Node] = {}
    titles = {key: table.title for key, table in planned.study.tables.items()}
    for run in planned.classifiers.values():
        _add(nodes, run, records, library)
    for run in planned.runs.values():
        _add(nodes, run, records, library)
    for row in planned.rows:
        table = nodes.setdefault(f"table {row.table}", Node(titles[row.table], 3))
        rows = [run for run in row.runs.values()]
        table.before |= dict.fromkeys(key for run in rows if nodes[key := _key(run)].level == 2)
        table.kinds += [records[str(run.directory)].kind for run in rows]
    height = _place(nodes.values(), nodes)
    edges = [(nodes[key], node) for node in nodes.values() for key in node.before]
    return Graph(nodes, edges, 4 * NODE_WIDTH + 3 * GAP, height)


def _key(run: Run | ClassifierRun) -> str:
    """Return what all seeds of a training have in common: the directory that theirs lie in."""
    return str(run.directory.parent)


def _add(
    nodes: dict[str, Node], run: Run | ClassifierRun, records: Mapping[str, Record], library: Library
) -> None:
    data = f"data {run.dataset}"
    nodes.setdefault(data, Node(run.dataset, 0))
    taught = _teachers(run)
    node = nodes.setdefault(_key(run), Node(_label(run, library), 2))
    node.before |= dict.fromkeys(map(_key, taught)) if taught else {data: None}
    node.kinds.append(records[str(run.directory)].kind)
    if isinstance(run, ClassifierRun):
        node.level = 1
    for teacher in taught:
        nodes[_key(teacher)].level = 1


def _teachers(run: Run | ClassifierRun) -> list[Run | ClassifierRun]:
    if isinstance(run, ClassifierRun):
        return []
    return [each for each in (run.teacher, run.classifier) if each]


def _label(run: Run | ClassifierRun, library: Library) -> str:
    if isinstance(run, ClassifierRun):
        return f"Classifier {library.classifier(run.classifier, 'report').title}"
    detector = library.detector(run.detector, "report").title
    model = f"{detector} {backbone_name(run.student, library)}"
    return f"{method_name(run.method, library)}: {model}" if run.method else model


def _place(nodes: Iterable[Node], known: Mapping[str, Node]) -> int:
    """Give each node its height: students in order, what is before or after them at their middle."""
    levels: list[list[Node]] = [[n for n in nodes if n.level == level] for level in range(4)]
    students = levels[2]
    for place, node in enumerate(students):
        node.y = TOP + place * ROW
    for level in (1, 0):
        for node in levels[level]:
            after = [n for n in known.values() if any(known[key] is node for key in n.before)]
            _centre(node, [n for n in after if n.level > level])
    for node in levels[3]:
        _centre(node, [known[key] for key in node.before])
    for level in (0, 1, 3):
        _spread(levels[level])
    return int(max((node.y for node in known.values()), default=TOP)) + ROW


def _centre(node: Node, others: list[Node]) -> None:
    places = [other.y for other in others]
    node.y = sum(places) / len(places) if places else TOP


def _spread(level: list[Node]) -> None:
    """Move nodes of a level apart, downwards, and so that none lies above the first row."""
    level.sort(key=lambda node: node.y)
    lowest = float(TOP)
    for node in level:
        node.y = round(max(node.y, lowest), 1)
        lowest = node.y + ROW
