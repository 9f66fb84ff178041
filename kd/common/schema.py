"""Strict model of configuration files, and reading of YAML."""

import ast
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from kd.common.errors import UserError, suggest


class Part(BaseModel):
    """One configuration file or block; it is frozen; unknown keys and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Any, where: str) -> Self:
        """Validate ``values``; UserError names ``where``, the key and a valid key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(f"{where}: {_describe(cls, error)}") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Validate a YAML file."""
        return cls.parse(read_yaml(path), str(path))

    @classmethod
    def explain(cls, key: str, value: str) -> str:
        """Return a key with a value and, below them, the docstring of the key."""
        return f"  {key}: {value}\n{textwrap.indent(cls.meaning(key), ' ' * 6)}".rstrip()

    @classmethod
    def meaning(cls, key: str) -> str:
        """Return the description of a key: that of its type, or the docstring below the key."""
        return cls.model_fields[key].description or attribute_docstrings(cls).get(key, "")


@cache
def attribute_docstrings(model: type[Part]) -> dict[str, str]:
    """Return the docstring below each field of a model and of the models it inherits from.

    It is read from the source when it is printed: pydantic's ``use_attribute_docstrings`` would
    parse the source of every model at import.
    """
    texts: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, Part):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                    value=ast.Constant(value=str(value))
                ):
                    texts[name] = inspect.cleandoc(value)
    return texts


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file; raise UserError if it is absent or not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    try:
        return _load(text) or {}
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}: not valid YAML{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Return the values of ``KEY=VALUE`` arguments by key, each read as YAML."""
    values = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"'{text}': write it as KEY=VALUE")
        try:
            values[key] = _load(value)
        except yaml.YAMLError:
            raise UserError(f"'{text}': the value is not valid YAML") from None
    return values


class _Unique(yaml.constructor.SafeConstructor):
    """Constructor that refuses a repeated key; plain YAML would use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if key.value in (earlier.value for earlier in keys[:index]):
                problem = f"key '{key.value}' is given twice"
                raise yaml.MarkedYAMLError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


class _Loader(_Unique, yaml.SafeLoader):
    pass


class _FastLoader(_Unique, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Loader in C, if PyYAML was built with it."""


def _load(text: str) -> Any:
    """Parse YAML with the fast loader; on an error parse again for its more precise message."""
    try:
        return yaml.load(text, _FastLoader)
    except yaml.YAMLError:
        return yaml.load(text, _Loader)


def _describe(model: type[BaseModel], error: ValidationError) -> str:
    """Return one sentence per key with a problem, with keys as in the configuration file."""
    by_key: dict[str, list[Any]] = {}
    for detail in error.errors():
        by_key.setdefault(".".join(_location(detail)), []).append(detail)
    return "; ".join(_problems(model, details) for details in by_key.values())


def _location(detail: Any) -> list[str]:
    """Return the keys that lead to a problem, without pydantic's names of alternatives."""
    return [part for part in map(str, detail["loc"]) if not ALTERNATIVE.match(part)]


def _problems(model: type[BaseModel], details: list[Any]) -> str:
    """Return one sentence on a key; a value that fits no alternative has a detail for each."""
    sentences = [_problem(model, detail) for detail in details]
    start, end = f"key '{'.'.join(_location(details[0]))}': must be ", _rejected_value(details[0])
    if not all(text.startswith(start) and text.endswith(end) for text in sentences):
        return "; ".join(sentences)
    alternatives = (text.removeprefix(start).removesuffix(end) for text in sentences)
    return f"{start}{' or '.join(alternatives)}{end}"


def _problem(model: type[BaseModel], detail: Any) -> str:
    location = _location(detail)
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        owner = _model_at(model, detail["loc"][:-1])
        names = owner.model_fields if owner else ()
        return f"unknown key '{key}'; {suggest(location[-1], names)}"
    if detail["type"] == "missing":
        return f"key '{key}' is missing"
    message = _requirement(detail)
    return f"key '{key}': {message}" if key else message


ALTERNATIVE = re.compile(r"\(|(literal|tuple|list|dict)\[|constrained-")
"""Beginning of pydantic's name for one of several types of a value, in an error's location."""
NAME_PATTERN = r"^\w+$"
FIGURE_PATTERN = r"^(Figure [A-Z]?\d+[a-z]?|[A-Z][a-z]+ figure)$"
PATTERNS = {
    NAME_PATTERN: "must be a name of letters, digits and underscores",
    FIGURE_PATTERN: "must be the name of a paper's figure, such as 'Figure 3' or 'Figure S1'",
}
"""Requirement on a text, by the pattern that it does not match."""
REQUIREMENTS = {
    "model_type": "a block of keys and values",
    "dict_type": "a block of keys and values",
    "list_type": "a list in brackets, such as [a, b]",
    "tuple_type": "a list in brackets, such as [1, 2]",
    "string_type": "text; a number needs quotes",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
}
"""Requirement on a value, by the type of pydantic's error."""


def _requirement(detail: Any) -> str:
    """Return the requirement that a value does not meet, and the value if it is a scalar."""
    if detail["type"] == "string_pattern_mismatch" and detail["ctx"]["pattern"] in PATTERNS:
        return PATTERNS[detail["ctx"]["pattern"]]
    if detail["type"] == "too_short":
        return f"must list at least {detail['ctx']['min_length']} entry"
    text = REQUIREMENTS.get(detail["type"])
    if text is None and not detail["msg"].startswith("Input should be "):
        return str(detail["msg"]).removeprefix("Value error, ")
    text = text or detail["msg"].removeprefix("Input should be ")
    return f"must be {text}{_rejected_value(detail)}"


def _rejected_value(detail: Any) -> str:
    """Return the end of a sentence that names the value, empty if it is no scalar."""
    value = detail["input"]
    return f", not {value!r}" if isinstance(value, str | int | float) else ""


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the model that has the key at ``location``, or None."""
    owner: type[BaseModel] | None = model
    for key in location:
        if owner is None or not isinstance(key, str):
            continue
        field = owner.model_fields.get(key)
        owner = _models_in(field.annotation) if field else owner
    return owner


def _models_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = (model for model in map(_models_in, get_args(annotation)) if model)
    return next(models, None)
