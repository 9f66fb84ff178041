"""Reference of the configuration files: ``python -m docs.build.configuration``."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from analysis.tables.markdown import escaped
from docs.build.configuration_examples import COLUMN_MEANINGS, EXAMPLES, INTRODUCTION, PUBLISHED
from docs.build.markdown import grid
from kd.common.files import write_text
from kd.common.schema import Part, attribute_docstrings, read_yaml
from kd.config import parts, study_parts
from kd.config.published import COLUMNS, SOURCE_STUDENT
from kd.data import entry
from kd.workflow.options import WorkflowOptions

PAGE = Path("docs/reference/configuration.md")
HEADER = ["key", "type", "default", "meaning"]
NUMBERS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
SIGNS = {"gt": "> ", "ge": "≥ ", "lt": "< ", "le": "≤ "}


class Kind(NamedTuple):
    """A kind of file: its heading, its model, and the models of the blocks in it."""

    title: str
    model: type[Part]
    blocks: tuple[type[Part], ...] = ()


KINDS = (
    Kind("The workflow: `configs/default.yaml`", WorkflowOptions),
    Kind(
        "Studies: `configs/studies/*.yaml`",
        study_parts.Study,
        (
            *(
                study_parts.Table,
                study_parts.Pair,
                study_parts.Checkpoint,
                study_parts.EqualTimeRatio,
            ),
            *(study_parts.Figure, study_parts.PaperFigure),
        ),
    ),
    Kind("Scales: `configs/scales/*.yaml`", parts.Scale, (parts.Jobs,)),
    Kind("Schedules: `configs/schedules/*.yaml`", parts.Schedule, (parts.ZooWeights,)),
    Kind("Data sets: `configs/datasets/*.yaml`", entry.Dataset, (entry.CocoSplit, entry.Shapes)),
    Kind(
        "Detectors: `configs/detectors/*.yaml`",
        parts.Detector,
        (parts.DetectorFlops, parts.DetectorOnBackbone),
    ),
    Kind("Backbones: `configs/backbones/*.yaml`", parts.Backbone),
    Kind("Classifiers: `configs/classifiers/*.yaml`", parts.Classifier),
    Kind("Published detectors: an entry of `configs/zoo.yaml`", parts.ZooEntry),
    Kind("Presets: an entry of `configs/presets/<method>.yaml`", parts.PresetEntry),
)
BLOCKS: dict[type[BaseModel], str] = {
    study_parts.Table: "Tables of a study",
    study_parts.Pair: "Pairs of a table",
    study_parts.Checkpoint: "Published weights of a pair's teacher",
    study_parts.EqualTimeRatio: "Measured ratio of a table's control",
    study_parts.Figure: "Figures of a study",
    study_parts.PaperFigure: "The paper's figure that a figure of a study makes again",
    parts.Jobs: "Jobs of a scale",
    parts.ZooWeights: "Initial weights of a detector",
    entry.CocoSplit: "A split in COCO format",
    entry.Shapes: "Generated data",
    parts.DetectorFlops: "FLOPs of a detector",
    parts.DetectorOnBackbone: "A detector on a backbone",
}


def main() -> None:
    """Write the page."""
    write_text(PAGE, page())


def page() -> str:
    """Return the page: a section for each kind of file, and the columns of published numbers."""
    sections = [INTRODUCTION, *(text for kind in KINDS for text in _section(kind)), PUBLISHED]
    columns = [[f"`{name}`", escaped(COLUMN_MEANINGS[name])] for name in (*COLUMNS, SOURCE_STUDENT)]
    return "\n\n".join([*sections, grid(["column", "meaning"], columns)]) + "\n"


def _section(kind: Kind) -> Iterator[str]:
    yield f"## {kind.title}"
    yield grid(HEADER, _rows(kind.model))
    for block in kind.blocks:
        yield f"### {BLOCKS[block]}"
        yield grid(HEADER, _rows(block))
    yield f"Example:\n\n```yaml\n{EXAMPLES[kind.model.__name__].strip()}\n```"


def _rows(model: type[Part]) -> Iterator[list[str]]:
    meanings = attribute_docstrings(model)
    fields = model.model_fields
    if model is WorkflowOptions:  # in the order of the file
        fields = {key: fields[key] for key in read_yaml(Path("configs/default.yaml"))}
    for key, field in fields.items():
        meaning = _markdown(" ".join(meanings[key].split()))
        kind = type_text(field.annotation, field.metadata)
        yield [f"`{key}`", kind, _default(field), meaning]


def _markdown(text: str) -> str:
    """Return a docstring in Markdown, in which code is not escaped."""
    segments = text.replace("``", "`").split("`")
    return "`".join(part if place % 2 else escaped(f"|{part}|")[2:-2]
                    for place, part in enumerate(segments))  # fmt: skip


def type_text(annotation: Any, metadata: Any = ()) -> str:
    """Return the type of a key in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation == study_parts.Sweep:
        return "block of lists, or list of blocks"
    if origin is Annotated:
        return type_text(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        options = [type_text(option) for option in arguments if option is not NoneType]
        return " or ".join(dict.fromkeys(options))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_plural(type_text(arguments[0]))}"
    if origin is tuple:
        return f"{len(arguments)} {_plural(type_text(arguments[0]))}"
    if origin is dict:
        of_blocks = get_origin(arguments[1]) is dict or arguments[1] is Any
        return "block" if of_blocks else f"block of {_plural(type_text(arguments[1]))} by name"
    if annotation in BLOCKS:
        title = BLOCKS[annotation]
        return f"[block](#{title.lower().replace(' ', '-').replace(chr(39), '')})"
    limits = [
        f"{sign}{getattr(limit, name):g}"
        for limit in metadata
        for name, sign in SIGNS.items()
        if getattr(limit, name, None) is not None
    ]
    return " ".join([NUMBERS.get(annotation, "any value"), ", ".join(limits)]).strip()


def _plural(text: str) -> str:
    for noun in ("whole number", "number", "text", "list", "block"):
        if text.startswith(noun):
            return f"{noun}s{text.removeprefix(noun)}"
    return text.replace("[block]", "[blocks]").replace("any value", "any values")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "its defaults"
    return f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    main()
