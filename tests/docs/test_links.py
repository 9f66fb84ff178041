"""Links between documents: each resolves, each picture is described, and no page is an orphan."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

README = REPOSITORY / "README.md"
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+(?:\([^()\s]*\))?)\)")

QUESTIONS = {
    "How do I run it on my own data?": "docs/tutorials/own-data.md#1-put-the-images-in-a-folder",
    "How do I add a method?": "docs/how-to/add-method.md",
    "Where are the weights?": "docs/how-to/use-weights.md#find-the-weights",
    "How do I use them in mmdet?": "docs/how-to/use-weights.md#detect-objects-in-an-image",
    "How many GPU hours does Table 1 take?": "docs/how-to/paper-table.md",
    "Can I run only one row?": "docs/how-to/one-row.md",
    "How do I change the learning rate?": "docs/how-to/change-schedule.md",
    "How do I resume?": "docs/how-to/resume.md",
    "How do I cite it?": "docs/how-to/cite.md",
    "What is a gain's interval?": ("docs/explanation/statistics.md#the-simultaneous-interval"),
    "What is `mini`?": "docs/how-to/paper-table.md#scales",
    "Which PyTorch and CUDA?": "docs/how-to/install.md#what-you-need",
}
"""Questions of a newcomer, and the page or section with the answer."""


def pages() -> list[Path]:
    """Return all Markdown pages of the repository."""
    folders = ("docs", "benchmarks", "workflow", "kd", "analysis", "configs", "tests")
    nested = [
        path
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*.md")
        if ".pytest_cache" not in path.parts
    ]
    return sorted([*REPOSITORY.glob("*.md"), *nested])


@cache
def text_of(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@cache
def links(page: Path) -> list[tuple[bool, str, str]]:
    """Return (is a picture, text, target) of every link to a file of the repository."""
    matches = LINK.findall(
        re.sub(r"`[^`\n]*`", lambda code: code[0].replace("](", "] ("), text_of(page))
    )
    return [
        (bool(picture), words, target)
        for picture, words, target in matches
        if not re.match(r"[a-z]+:", target)
    ]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ +(.+?) *$", text_of(page), re.MULTILINE)
    counts: dict[str, int] = {}
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', text_of(page)))
    for heading in headings:
        plain = LINK.sub(r"\2", heading).replace("`", "").replace("*", "")
        name = re.sub(r"[^\w\- ]", "", plain.replace("\\", "").lower()).replace(" ", "-")
        number = counts.get(name, 0)
        counts[name] = number + 1
        names.add(f"{name}-{number}" if number else name)
    return frozenset(names)


def resolved(page: Path, target: str) -> tuple[Path, str]:
    """Return the file and the anchor that a link points to."""
    name, _, anchor = target.partition("#")
    return ((page.parent / name).resolve() if name else page), anchor


def clicks(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links, as paths of the repository with anchors."""
    for is_picture, _, target in links(page):
        path, anchor = resolved(page, target)
        if not is_picture and path.is_relative_to(REPOSITORY):
            yield str(path.relative_to(REPOSITORY)) + (f"#{anchor}" if anchor else "")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_of_a_page_resolve_and_its_pictures_are_described(page: Path) -> None:
    problems = []
    for is_picture, words, target in links(page):
        path, anchor = resolved(page, target)
        if not path.exists():
            problems.append(f"{target}: no such file")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            problems.append(f"{target}: no such heading")
        elif is_picture and (len(words.split()) < 3 or Path(target).name in words):
            problems.append(f"{target}: describe the picture, not '{words}'")
    assert problems == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reachable, new = {README}, [README]
    while new:
        page = new.pop()
        for target in clicks(page):
            path = REPOSITORY / target.partition("#")[0]
            if path.suffix == ".md" and path.exists() and path not in reachable:
                reachable.add(path)
                new.append(path)
    assert [str(page.relative_to(REPOSITORY)) for page in pages() if page not in reachable] == []


@pytest.mark.parametrize(("question", "answer"), QUESTIONS.items(), ids=QUESTIONS)
def test_a_newcomers_question_is_answered_within_two_clicks(question: str, answer: str) -> None:
    index = REPOSITORY / "docs/index.md"
    assert question in index.read_text(encoding="utf-8")
    first = [*clicks(README)]
    pages_of_one_click = {REPOSITORY / target.partition("#")[0] for target in first}
    second = [
        target
        for page in pages_of_one_click
        if page.suffix == ".md" and page.exists()
        for target in clicks(page)
    ]
    assert answer in first or answer in second
    path, anchor = resolved(README, answer)
    assert path.exists() and (not anchor or anchor in anchors(path))
