"""Names, docstrings, messages and documents keep to the word list of ``tests/house/words.py``."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.house import documents, sources, words
from tests.house.words import (
    BRITISH,
    BRITISH_EXCEPTIONS,
    BRITISH_SETTINGS,
    DOCUMENT_PHRASES,
    FIRST_WORDS,
    PACKAGE_REGISTRIES,
    PHRASES,
    VAGUE_NAMES,
    VAGUE_PARTS,
)
from tests.support.paths import REPOSITORY

FOLDERS = sorted(
    {str(path.parent.relative_to(REPOSITORY)) for path in sources.files(*sources.ALL)}
    - {"tests/house"}
)
Check = Callable[[Path], Iterator[str]]


def problems(folder: str, check: Check) -> list[str]:
    """Return what a check has against the files of a folder, with file and line."""
    paths = [path for path in sources.files(folder) if path.parent == REPOSITORY / folder]
    return [f"{path.relative_to(REPOSITORY)}:{text}" for path in paths for text in check(path)]


def vague_names(path: Path) -> Iterator[str]:
    names = documents.template_names if path.suffix == ".html" else sources.names
    for line, name in names(path):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().strip("_").split("_")
        if VAGUE_PARTS & {*words} or "_".join(words) in VAGUE_NAMES:
            yield f"{line}: name '{name}': say what it holds"


def first_words(path: Path) -> Iterator[str]:
    for line, text in sources.docstrings(path):
        word = re.match(r"\s*(\w*)", text)
        if word and word[1] in FIRST_WORDS:
            yield f"{line}: a docstring begins with '{word[1]}': name the thing, or use a verb"


def phrases(path: Path) -> Iterator[str]:
    return _phrases(sources.texts(path), PHRASES)


def _phrases(places: Iterable[sources.Place], plain_forms: dict[str, str]) -> Iterator[str]:
    for line, text in places:
        for pattern, plain in plain_forms.items():
            for match in re.finditer(pattern, text, re.IGNORECASE):
                yield f"{line}: '{match[0]}': write {plain}"


def british_spellings(path: Path) -> Iterator[str]:
    return _british_spellings([*sources.texts(path), *sources.names(path)])


def _british_spellings(places: Iterable[sources.Place]) -> Iterator[str]:
    for line, text in places:
        for match in BRITISH.finditer(BRITISH_SETTINGS.sub("", text.replace("_", " "))):
            if match[0].lower() not in BRITISH_EXCEPTIONS:
                yield f"{line}: '{match[0]}': American spelling"


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("check", [vague_names, first_words, phrases, british_spellings])
def test_a_folder_keeps_to_the_word_list(folder: str, check: Check) -> None:
    assert not (faults := problems(folder, check)), "\n".join(faults)


def test_documents_keep_to_the_word_list() -> None:
    """Documents, configurations, captions, templates and scripts have plain phrases."""
    faults = [
        f"{path.relative_to(REPOSITORY)}:{fault}"
        for path in documents.files()
        for fault in [
            *_phrases(documents.lines(path), DOCUMENT_PHRASES),
            *_british_spellings(documents.lines(path)),
            *(vague_names(path) if path.suffix == ".html" else ()),
        ]
    ]
    assert not faults, "\n".join(faults)


def test_no_file_names_a_package_registry() -> None:
    files = {*documents.files(), *sources.files(*sources.ALL)} - {Path(words.__file__)}
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    assert [path for path, text in texts.items() if PACKAGE_REGISTRIES.search(text)] == []


def test_the_glossary_defines_each_term_once() -> None:
    text = (REPOSITORY / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8")
    terms = [term.lower() for term in re.findall(r"^### (.*)$", text, re.MULTILINE)]
    others = re.findall(r"^Also ([\w ,]+?)\.", text, re.MULTILINE)
    terms += [term for names in others for term in re.split(r", | or | and ", names.lower())]
    assert len(terms) > 20
    assert sorted(terms) == sorted(set(terms))


def test_a_class_name_means_one_thing() -> None:
    """No two classes of the product have one name."""
    places: dict[str, list[str]] = {}
    for path in sources.files(*sources.PRODUCT):
        for line, name in sources.classes(path):
            places.setdefault(name, []).append(f"{path.relative_to(REPOSITORY)}:{line}")
    doubles = {name: where for name, where in places.items() if len(where) > 1}
    assert not doubles
