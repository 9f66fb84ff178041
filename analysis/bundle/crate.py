"""Metadata of a bundle: RO-Crate 1.3 with the profile Workflow Run Crate 0.5.

The main entity is the Snakefile. Each run is an action with its configuration, data and teachers
as objects and its files as results. https://w3id.org/ro/crate/1.3,
https://w3id.org/ro/wfrun/workflow/0.5

The profile rests on RO-Crate 1.1, whose addresses of Bioschemas types differ from those of 1.3. So
the crate conforms to both versions, and such entities have both addresses.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from analysis.bundle.archive import Member
from analysis.bundle.contents import SNAKEFILE, describe_file

FILE = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.3/context"
SPECIFICATIONS = ("https://w3id.org/ro/crate/1.3", "https://w3id.org/ro/crate/1.1")
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
WORKFLOW = SNAKEFILE
README = "README.md"
FORMATS = {
    ".json": "application/json", ".jsonl": "application/jsonl", ".gz": "application/gzip",
    ".csv": "text/csv", ".md": "text/markdown", ".tex": "application/x-tex",
    ".html": "text/html", ".png": "image/png", ".pdf": "application/pdf", ".log": "text/plain",
    ".py": "text/x-python", ".yaml": "application/yaml", ".bib": "application/x-bibtex",
    ".smk": "text/plain", ".rst": "text/x-rst", ".npz": "application/zip",
    ".pth": "application/octet-stream",
}  # fmt: skip
"""Media types by the end of a file's name."""
HOME_PAGES = {
    "torch": "https://pytorch.org",
    "torchvision": "https://pytorch.org/vision",
    "mmdet": "https://github.com/open-mmlab/mmdetection",
    "mmengine": "https://github.com/open-mmlab/mmengine",
    "mmcv-lite": "https://github.com/open-mmlab/mmcv",
    "numpy": "https://numpy.org",
    "hotcoco": "https://github.com/derekallman/hotcoco",
    "python": "https://www.python.org",
}
"""Addresses of the software that provenance records."""
PACKAGE = "kd-detection"
COMPLETED, FAILED = (f"http://schema.org/{word}ActionStatus" for word in ("Completed", "Failed"))

Reference = dict[str, str]


@dataclass
class Graph:
    """Entities of a crate by ``@id``."""

    entities: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, id_: str, kind: str | list[str], **properties: Any) -> Reference:
        """Add an entity unless it is there, without empty properties; return a reference to it."""
        present = {
            key: value[0] if isinstance(value, list) and len(value) == 1 else value
            for key, value in properties.items()
            if value not in (None, "", [])
        }
        self.entities.setdefault(id_, {"@id": id_, "@type": kind, **present})
        return {"@id": id_}

    def document(self) -> dict[str, Any]:
        """Return the content of the metadata file."""
        return {"@context": CONTEXT, "@graph": list(self.entities.values())}


@dataclass(frozen=True)
class RunAction:
    """A run as an action of the crate."""

    directory: str
    name: str
    description: str
    record: dict[str, Any]
    """Content of ``provenance.json``, or of ``failure.json`` of a failed run."""
    error: str
    """Reason of a failed run; empty for others."""
    dataset: str
    teachers: Sequence[str]
    """Directories of the runs that it was distilled from."""


class DatasetFacts(NamedTuple):
    """A data set of the crate: its license, and the fingerprints of its measured splits."""

    name: str
    license: str | None
    fingerprints: Mapping[str, str]


@dataclass(frozen=True)
class StudyFacts:
    """Facts of a study that the crate states."""

    name: str
    scale: str
    title: str
    description: str
    license: str
    date: str
    """End of the last run, ISO 8601."""
    version: str
    """Version of kd-detection that wrote the bundle."""
    snakemake: str
    """Version of Snakemake."""
    command: str
    """Command line that runs the study."""
    datasets: Sequence[DatasetFacts]

    def license_of(self, dataset: str) -> str | None:
        """Return the license of a data set, None without one."""
        return next((one.license for one in self.datasets if one.name == dataset), None)


def metadata(facts: StudyFacts, members: Sequence[Member], actions: Sequence[RunAction]) -> Any:
    """Return the content of ``ro-crate-metadata.json``."""
    graph = Graph()
    graph.add(
        FILE, "CreativeWork", about={"@id": "./"},
        conformsTo=[{"@id": one} for one in (*SPECIFICATIONS, list(PROFILES)[-1])],
    )  # fmt: skip
    files = [{"@id": member.name} for member in members]
    root = graph.add(
        "./", "Dataset", name=facts.title, description=facts.description,
        datePublished=facts.date, license=_license(graph, facts.license), hasPart=files,
        mainEntity={"@id": WORKFLOW}, conformsTo=[{"@id": profile} for profile in PROFILES],
    )  # fmt: skip
    for profile, (name, version) in PROFILES.items():
        graph.add(profile, ["CreativeWork", "Profile"], name=name, version=version)
    _add_workflow(graph, facts)
    for member in members:
        _add_file(graph, member, facts)
    for name, license, fingerprints in facts.datasets:
        graph.add(
            f"#data-{name}", "Dataset", name=name, license=_license(graph, license),
            identifier=[f"{split} {value}" for split, value in sorted(fingerprints.items())],
            description="Its images are not in the bundle. The identifiers are the SHA-256 of each "
            "split's annotations, and of names and sizes of its images.",
        )  # fmt: skip
    present = {member.name for member in members}
    mentions = [_add_study_action(graph, facts, members, actions)]
    mentions += [_add_run(graph, action, present) for action in actions]
    graph.entities[root["@id"]]["mentions"] = mentions
    return graph.document()


def _add_workflow(graph: Graph, facts: StudyFacts) -> None:
    """Add the Snakefile, its language and its parameters."""
    graph.add(
        "#snakemake", "ComputerLanguage", name="Snakemake", url="https://snakemake.github.io",
        version=facts.snakemake,
        identifier="https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
    )  # fmt: skip
    for name, value in (("study", facts.name), ("scale", facts.scale)):
        graph.add(
            f"#parameter-{name}", _bioschemas("FormalParameter"), name=name, additionalType="Text",
            conformsTo={"@id": PARAMETER}, workExample={"@id": f"#{name}"},
        )  # fmt: skip
        graph.add(
            f"#{name}", "PropertyValue", name=name, value=value,
            exampleOfWork={"@id": f"#parameter-{name}"},
        )  # fmt: skip
    graph.add(
        WORKFLOW, ["File", "SoftwareSourceCode", *_bioschemas("ComputationalWorkflow")],
        name="Workflow from data to tables", version=facts.version,
        license=_license(graph, "Apache-2.0"),
        programmingLanguage={"@id": "#snakemake"}, conformsTo={"@id": BIOSCHEMAS},
        input=[{"@id": "#parameter-study"}, {"@id": "#parameter-scale"}],
        encodingFormat="text/plain",
    )  # fmt: skip
    graph.add(BIOSCHEMAS, "CreativeWork", name="Bioschemas ComputationalWorkflow", version="1.0")
    graph.add(PARAMETER, "CreativeWork", name="Bioschemas FormalParameter", version="1.0")


def _bioschemas(name: str) -> list[str]:
    """Return the addresses of a type in RO-Crate 1.3, by its short name, and in 1.1."""
    return [name, f"https://bioschemas.org/{name}"]


def _license(graph: Graph, text: str | None) -> Reference | None:
    """Add a license: an SPDX identifier, an address, or a sentence; None without one."""
    if text is None:
        return None
    if re.fullmatch(r"[A-Za-z0-9.+-]+", text):
        address = f"https://spdx.org/licenses/{text}"
    else:
        address = text if re.fullmatch(r"https?://\S+", text) else f"#license-{quote(text, '')}"
    return graph.add(address, "CreativeWork", name=text, description=f"License: {text}")


def _add_file(graph: Graph, member: Member, facts: StudyFacts) -> None:
    """Add a file with its size and digest; ground truth has the license of its data set."""
    path = PurePosixPath(member.name)
    license = None
    if path.parts[0] == "truth":
        license = facts.license_of(path.name.removesuffix(".json.gz").rpartition("-")[0])
    about = {"@id": "./"} if member.name == README else None
    graph.add(
        member.name, "File", name=path.name, encodingFormat=FORMATS.get(path.suffix),
        about=about, license=_license(graph, license), description=describe_file(path),
    )  # fmt: skip
    graph.entities[member.name] |= {"contentSize": str(member.size), "sha256": member.sha256}


def _add_study_action(
    graph: Graph, facts: StudyFacts, members: Sequence[Member], actions: Sequence[RunAction]
) -> Reference:
    """Add the action that made the tables from all runs."""
    tables = [member.name for member in members if PurePosixPath(member.name).stem == "table"]
    started = min(filter(None, (action.record.get("started") for action in actions)), default=None)
    return graph.add(
        "#workflow-run", "CreateAction", name=f"Study {facts.name} at scale {facts.scale}",
        description="All trainings of the study, their evaluation and the tables",
        instrument={"@id": WORKFLOW}, startTime=started, endTime=facts.date,
        agent=_agents(graph, [action.record for action in actions]),
        object=[{"@id": "#study"}, {"@id": "#scale"}], result=[{"@id": name} for name in tables],
    )  # fmt: skip


def _add_run(graph: Graph, action: RunAction, present: set[str]) -> Reference:
    """Add a training with its evaluation."""
    record = action.record
    files = [name for name in sorted(present) if name.startswith(f"{action.directory}/")]
    configurations = [name for name in files if name.endswith(("/config.json", "/run.json"))]
    results = [{"@id": name} for name in files if name not in configurations]
    objects = [{"@id": name} for name in configurations]
    objects += [{"@id": f"#data-{action.dataset}"}]
    objects += [weights for teacher in action.teachers if (weights := _weights(graph, teacher))]
    digest = record.get("weights_sha256")
    if digest and f"{action.directory}/weights.pth" not in present:
        results.append(_add_weights(graph, action.directory, digest))
    return graph.add(
        f"#run-{action.directory}", "CreateAction", name=action.name,
        description=action.description, instrument=_software(graph, record),
        startTime=record.get("started"), endTime=record.get("finished") or record.get("time"),
        agent=_agents(graph, [record]), actionStatus=FAILED if action.error else COMPLETED,
        error=action.error, object=objects, result=results,
    )  # fmt: skip


def _add_weights(graph: Graph, directory: str, digest: str) -> Reference:
    return graph.add(
        f"#weights-{directory}", "CreativeWork", name=f"weights of {directory}", identifier=digest,
        description="Not in the bundle. The identifier is the SHA-256 of weights.pth.",
    )  # fmt: skip


def _weights(graph: Graph, directory: str) -> Reference | None:
    """Return a reference to a teacher's weights, which was added before its students."""
    names = (f"{directory}/weights.pth", f"#weights-{directory}")
    return next(({"@id": name} for name in names if name in graph.entities), None)


def _software(graph: Graph, record: dict[str, Any]) -> Reference:
    """Add the code of a run at its commit, with its packages at their versions."""
    packages = {**(record.get("packages") or {}), "python": record.get("python")}
    version, commit = packages.pop(PACKAGE, None) or "unknown", record.get("commit")
    required = [
        graph.add(
            f"pkg:pypi/{name}@{number}", "SoftwareApplication", name=name, version=number,
            url=HOME_PAGES.get(name, f"pkg:pypi/{name}"),
        )
        for name, number in packages.items()
        if number
    ]  # fmt: skip
    address = f"pkg:generic/{PACKAGE}@{version}" + (f"?commit={commit}" if commit else "")
    numbers = "-".join(f"{name}-{number}" for name, number in sorted(packages.items()))
    return graph.add(
        f"{address}#{numbers}", "SoftwareApplication", name="kd train", url=address,
        version=f"{version}, commit {commit}" if commit else version, softwareRequirements=required,
    )  # fmt: skip


def _agents(graph: Graph, records: Iterable[dict[str, Any]]) -> list[Reference] | Reference:
    """Add the users who ran the runs."""
    users = sorted({user for record in records if (user := record.get("user"))})
    people = [graph.add(f"#user-{user}", "Person", name=user) for user in users]
    return people[0] if len(people) == 1 else people
