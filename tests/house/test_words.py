"""Names, docstrings and messages keep to the word list of ``tests/house/words.py``."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.house import sources
from tests.house.words import (
    BRITISH,
    BRITISH_EXCEPTIONS,
    BRITISH_SETTINGS,
    FIRST_WORDS,
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
    for line, name in sources.names(path):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().strip("_").split("_")
        if VAGUE_PARTS & {*words} or "_".join(words) in VAGUE_NAMES:
            yield f"{line}: name '{name}': say what it holds"


def first_words(path: Path) -> Iterator[str]:
    for line, text in sources.docstrings(path):
        word = re.match(r"\s*(\w*)", text)
        if word and word[1] in FIRST_WORDS:
            yield f"{line}: a docstring begins with '{word[1]}': name the thing, or use a verb"


def phrases(path: Path) -> Iterator[str]:
    for line, text in sources.texts(path):
        for pattern, plain in PHRASES.items():
            for match in re.finditer(pattern, text, re.IGNORECASE):
                yield f"{line}: '{match[0]}': write {plain}"


def british_spellings(path: Path) -> Iterator[str]:
    for line, text in [*sources.texts(path), *sources.names(path)]:
        for match in BRITISH.finditer(BRITISH_SETTINGS.sub("", text.replace("_", " "))):
            if match[0].lower() not in BRITISH_EXCEPTIONS:
                yield f"{line}: '{match[0]}': American spelling"


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("check", [vague_names, first_words, phrases, british_spellings])
def test_a_folder_keeps_to_the_word_list(folder: str, check: Check) -> None:
    assert not (faults := problems(folder, check)), "\n".join(faults)


def test_a_class_name_means_one_thing() -> None:
    """No two classes of the product have one name."""
    places: dict[str, list[str]] = {}
    for path in sources.files(*sources.PRODUCT):
        for line, name in sources.classes(path):
            places.setdefault(name, []).append(f"{path.relative_to(REPOSITORY)}:{line}")
    doubles = {name: where for name, where in places.items() if len(where) > 1}
    assert not doubles
