"""The study as a graph: data, teachers, students and tables, a node for all seeds of a training."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.report.records import ORDER, Record, Training, teachers
from analysis.runs.titles import backbone_name, method_name
from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import ClassifierRun

LEVELS = ("Data", "Teachers", "Students", "Tables")
DATA, TEACHERS, STUDENTS, TABLES = range(4)
NODE_WIDTH, NODE_HEIGHT, GAP = 244, 24, 62
"""Pixels of a node, and between levels."""
ROW, TOP, HEADING = 29, 34, 26
"""Pixels from one node to the next below, above the first, and for a student's name."""
LABEL_LENGTH = 29
"""Characters that a node has room for beside its count."""
WORDS = {"running": "at work", "todo": "to come"}


@dataclass
class Node:
    """All runs of one role, detector, backbone and method; or a data set, or a table."""

    label: str
    """What it is called among others of its student."""
    name: str
    """What it is called by itself."""
    level: int
    group: str = ""
    before: dict[str, None] = field(default_factory=dict)
    """Keys of the nodes that it is made from."""
    kinds: dict[str, str] = field(default_factory=dict)
    """The state of each of its runs, by directory."""
    y: float = 0

    @property
    def x(self) -> int:
        return self.level * (NODE_WIDTH + GAP)

    @property
    def short(self) -> str:
        cut = len(self.label) > LABEL_LENGTH
        return self.label[: LABEL_LENGTH - 1] + "\u2026" if cut else self.label

    @property
    def counts(self) -> dict[str, int]:
        counted = Counter(self.kinds.values())
        return {kind: counted[kind] for kind in ORDER if counted[kind]}

    @property
    def count(self) -> str:
        """Runs done, of all."""
        return f"{self.counts.get('done', 0)}/{len(self.kinds)}" if self.kinds else ""

    @property
    def kind(self) -> str:
        """Its colour: that of what has failed, is at work, waits or is to come; else of done."""
        order = ("failed", "running", "queued", "todo", "done")
        return next((kind for kind in order if kind in self.counts), "")

    @property
    def told(self) -> str:
        """Its runs by state, in words."""
        return ", ".join(f"{n} {WORDS.get(kind, kind)}" for kind, n in self.counts.items())


@dataclass(frozen=True)
class Graph:
    """Nodes with their places, edges between them, students' names, and the size in pixels."""

    nodes: dict[str, Node]
    edges: list[tuple[Node, Node]]
    headings: list[tuple[str, int, float]]
    width: int
    height: int


def graph(planned: Plan, records: Mapping[str, Record], library: Library) -> Graph:
    """Return the graph of a plan."""
    nodes: dict[str, Node] = {}
    runs: list[Training] = [*planned.classifiers.values(), *planned.runs.values()]
    for run in runs:
        _add(nodes, run, records, library)
    for row in planned.rows:
        title = planned.study.tables[row.table].title
        table = nodes.setdefault(f"table {row.table}", Node(title, title, TABLES))
        for run in row.runs.values():
            table.kinds[str(run.directory)] = records[str(run.directory)].kind
            if nodes[_key(run)].level == STUDENTS:
                table.before[_key(run)] = None
    _tell_apart(nodes)
    headings, height = _place(nodes)
    edges = [(nodes[key], node) for node in nodes.values() for key in node.before]
    return Graph(nodes, edges, headings, len(LEVELS) * (NODE_WIDTH + GAP) - GAP, height)


def _key(run: Training) -> str:
    """Return what all seeds of a training have in common: the directory that theirs lie in."""
    return str(run.directory.parent)


def _add(
    nodes: dict[str, Node], run: Training, records: Mapping[str, Record], library: Library
) -> None:
    data = f"data {run.dataset}"
    nodes.setdefault(data, Node(run.dataset, run.dataset, DATA))
    taught = teachers(run)
    node = nodes.setdefault(_key(run), _node(run, library))
    node.before |= dict.fromkeys(map(_key, taught)) if taught else {data: None}
    node.kinds[str(run.directory)] = records[str(run.directory)].kind
    for teacher in taught:
        above = nodes[_key(teacher)]
        above.level, above.label = TEACHERS, above.name


def _node(run: Training, library: Library) -> Node:
    if isinstance(run, ClassifierRun):
        name = f"Classifier {library.classifier(run.classifier, 'report').title}"
        return Node(name, name, TEACHERS)
    detector = library.detector(run.detector, "report").title
    group = f"{detector} {backbone_name(run.student, library)}, {run.dataset}, {run.schedule}"
    model = group.split(", ")[0]
    if not run.method:
        return Node("alone", model, STUDENTS, group)
    method = method_name(run.method, library)
    return Node(method, f"{method}: {model}", STUDENTS, group)


def _tell_apart(nodes: dict[str, Node]) -> None:
    """Add its teachers to the name of a student that has the name of another of its group."""
    students = [node for node in nodes.values() if node.level == STUDENTS]
    alike = Counter((node.group, node.label) for node in students)
    for node in students:
        if alike[node.group, node.label] > 1:
            names = (nodes[key].name.removeprefix("Classifier ") for key in node.before)
            node.label = ", ".join([node.label, *names])


def _place(nodes: Mapping[str, Node]) -> tuple[list[tuple[str, int, float]], int]:
    """Give each node its height: students by group, the others at the middle of their students."""
    groups: dict[str, list[Node]] = {}
    for node in nodes.values():
        if node.level == STUDENTS:
            groups.setdefault(node.group, []).append(node)
    headings, y = [], float(TOP)
    common = _common(list(groups))
    for group, students in groups.items():
        headings.append((", ".join(_parts(group, common)), students[0].x, y + HEADING - 9))
        y += HEADING
        for node in students:
            node.y, y = y, y + ROW
    for level in (TEACHERS, DATA, TABLES):
        _centre(nodes, level)
    lowest = max((node.y for node in nodes.values()), default=0)
    return headings, int(max(lowest + ROW, y))


def _parts(group: str, common: set[str]) -> list[str]:
    model, *rest = group.split(", ")
    return [model, *(part for part in rest if part not in common)]


def _common(groups: list[str]) -> set[str]:
    """Return the data sets and schedules that every student has."""
    found = [set(group.split(", ")[1:]) for group in groups]
    return set.intersection(*found) if found else set()


def _centre(nodes: Mapping[str, Node], level: int) -> None:
    """Place a level's nodes at the mean of what they make or are made of, apart from each other."""
    members = [node for node in nodes.values() if node.level == level]
    for node in members:
        before = [nodes[key].y for key in node.before] if level == TABLES else []
        after = [other.y for other in nodes.values() if node in map(nodes.get, other.before)]
        places = before or [y for y in after if y]
        node.y = sum(places) / len(places) if places else TOP
    lowest = float(TOP)
    for node in sorted(members, key=lambda node: node.y):
        node.y = round(max(node.y, lowest), 1)
        lowest = node.y + ROW
