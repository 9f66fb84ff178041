"""The graph of a study: data sets, teachers, students and tables, one node per training."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from analysis.report.overview import split_sizes
from analysis.report.records import RunRecord, Training, teachers
from analysis.runs.titles import backbone_name, method_name, table_title
from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import ClassifierRun
from kd.monitoring.slurm_reasons import RUNNING
from kd.monitoring.status import DONE, FAILED, QUEUED, STATES, UNSTARTED, WAITING

LEVELS = ("Data", "Teachers", "Students", "Tables")
DATA, TEACHERS, STUDENTS, TABLES = range(4)
NODE_WIDTH, NODE_HEIGHT, GAP = 244, 24, 44
"""Size of a node and distance between levels, in pixels."""
ROW, TOP, HEADING = 29, 34, 26
"""Distance from node to node, space above the first, and height of a heading, in pixels."""
URGENCY = (FAILED, RUNNING, QUEUED, WAITING, UNSTARTED, DONE)
"""States by the attention that they need."""
LABEL_LENGTH = 29
"""Characters of a label that fit into a node next to its count."""


def most_urgent(states: Iterable[str]) -> str:
    """Return the first state of ``URGENCY`` that occurs."""
    return min(states, key=URGENCY.index)


@dataclass
class Node:
    """All seeds of one training, or a data set, or a table."""

    label: str
    """Name among the nodes of the same student."""
    name: str
    """Full name."""
    level: int
    group: str = ""
    """Detector, backbone, data set and schedule of a student."""
    before: dict[str, None] = field(default_factory=dict)
    """Keys of the nodes that this one depends on."""
    states: dict[str, str] = field(default_factory=dict)
    """State of each run by directory; of a data set, that of its check."""
    y: float = 0

    @property
    def x(self) -> int:
        """Horizontal position in pixels."""
        return self.level * (NODE_WIDTH + GAP)

    @property
    def short(self) -> str:
        """The label, cut to the width of a node."""
        cut = len(self.label) > LABEL_LENGTH
        return self.label[: LABEL_LENGTH - 1] + "\u2026" if cut else self.label

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs in each state that occurs."""
        totals = Counter(self.states.values())
        return {state: totals[state] for state in STATES if totals[state]}

    @property
    def count(self) -> str:
        """Finished of all runs, such as ``2/3``; the state of a data set."""
        if self.level == DATA:
            return self.state
        return f"{self.counts.get(DONE, 0)}/{len(self.states)}"

    @property
    def state(self) -> str:
        """The state of the run that needs most attention."""
        return most_urgent(self.states.values())

    @property
    def description(self) -> str:
        """Number of runs in each state, in words."""
        if self.level == DATA:
            return f"data check {self.state}"
        return ", ".join(f"{count} {state}" for state, count in self.counts.items())


@dataclass(frozen=True)
class StudyGraph:
    """Nodes with their positions, edges between them, headings, and the size in pixels."""

    nodes: dict[str, Node]
    edges: list[tuple[Node, Node]]
    headings: list[tuple[str, int, float]]
    """Text and position of the names of students."""
    width: int
    height: int


def study_graph(planned: Plan, records: Mapping[str, RunRecord], library: Library) -> StudyGraph:
    """Return the graph of a plan."""
    nodes: dict[str, Node] = {}
    runs: list[Training] = [*planned.classifiers.values(), *planned.runs.values()]
    for run in runs:
        _add(nodes, run, records, library)
    for row in planned.rows:
        title = table_title(planned.study.tables[row.table])
        table = nodes.setdefault(f"table {row.table}", Node(title, title, TABLES))
        for run in row.runs.values():
            table.states[str(run.directory)] = records[str(run.directory)].state
            if nodes[_key(run)].level == STUDENTS:
                table.before[_key(run)] = None
    _add_teachers(nodes)
    headings, height = _place(nodes)
    edges = [(nodes[key], node) for node in nodes.values() for key in node.before]
    return StudyGraph(nodes, edges, headings, len(LEVELS) * (NODE_WIDTH + GAP) - GAP, height)


def _key(run: Training) -> str:
    """Return the key of a training: the directory that contains those of all its seeds."""
    return str(run.directory.parent)


def _add(
    nodes: dict[str, Node], run: Training, records: Mapping[str, RunRecord], library: Library
) -> None:
    data = f"data {run.dataset}"
    if data not in nodes:
        state = DONE if split_sizes(run.dataset) else UNSTARTED
        nodes[data] = Node(run.dataset, run.dataset, DATA, states={run.dataset: state})
    if records[str(run.directory)].provenance:
        nodes[data].states = {run.dataset: DONE}  # trained on, so it was checked
    run_teachers = teachers(run)
    node = nodes.setdefault(_key(run), _node(run, library))
    node.before |= dict.fromkeys(map(_key, run_teachers)) if run_teachers else {data: None}
    node.states[str(run.directory)] = records[str(run.directory)].state
    for teacher in run_teachers:
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
        return Node("baseline", model, STUDENTS, group)
    method = method_name(run.method, library)
    return Node(method, f"{method}: {model}", STUDENTS, group)


def _add_teachers(nodes: dict[str, Node]) -> None:
    """Add the teachers to the labels of students that share a label within their group."""
    students = [node for node in nodes.values() if node.level == STUDENTS]
    alike = Counter((node.group, node.label) for node in students)
    for node in students:
        if alike[node.group, node.label] > 1:
            names = (nodes[key].name.removeprefix("Classifier ") for key in node.before)
            node.label = ", ".join([node.label, *names])


def _place(nodes: Mapping[str, Node]) -> tuple[list[tuple[str, int, float]], int]:
    """Set the vertical positions: students by group, other nodes at the mean of their neighbors."""
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
        _center(nodes, level)
    lowest = max((node.y for node in nodes.values()), default=0)
    return headings, int(max(lowest + ROW, y))


def _parts(group: str, common: set[str]) -> list[str]:
    model, *rest = group.split(", ")
    return [model, *(part for part in rest if part not in common)]


def _common(groups: list[str]) -> set[str]:
    """Return the data sets and schedules that all groups share."""
    parts = [set(group.split(", ")[1:]) for group in groups]
    return set.intersection(*parts) if parts else set()


def _center(nodes: Mapping[str, Node], level: int) -> None:
    """Set the positions of a level: the mean of the connected nodes, without overlaps."""
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
