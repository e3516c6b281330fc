"""The Japanese README and tutorial say what the English ones say: the same headings, tables, commands and links."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from flux_face.devtools.pack import ROOT

# English page -> Japanese page.
PAGES = {"README.md": "README.ja.md", "docs/tutorial.md": "docs/tutorial.ja.md"}

_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+# .*$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)]+)\)")

both = pytest.mark.parametrize(("english", "japanese"), PAGES.items())


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _outline(text: str) -> list[int]:
    """The levels of the headings, and below each the number of columns of every row of its tables."""
    return [
        len(line) - len(line.lstrip("#")) if line.startswith("#") else line.count("|")
        for line in _BLOCK.sub("", text).splitlines()
        if line.startswith(("#", "|"))
    ]


def _commands(text: str) -> list[tuple[str, str]]:
    """The code blocks, without the comments, which are in the page's language."""
    return [(language, _COMMENT.sub("", code)) for language, code in _BLOCK.findall(text)]


def _links(text: str) -> list[str]:
    """What a page links to; a Japanese page counts as the English one that it translates."""
    targets = [target.partition("#")[0] for target in _LINK.findall(text)]
    return [target.replace("/ja.md", ".md").replace(".ja.md", ".md") for target in targets]


@both
def test_pages_link_to_each_other_at_the_top(english: str, japanese: str) -> None:
    assert f"[日本語]({PurePosixPath(japanese).name})" in _read(english).splitlines()[:5]
    assert f"[English]({PurePosixPath(english).name})" in _read(japanese).splitlines()[:5]


@both
def test_pages_have_the_same_outline(english: str, japanese: str) -> None:
    assert _outline(_read(japanese)) == _outline(_read(english))


@both
def test_pages_have_the_same_commands(english: str, japanese: str) -> None:
    assert _commands(_read(english))
    assert _commands(_read(japanese)) == _commands(_read(english))


@both
def test_pages_have_the_same_links(english: str, japanese: str) -> None:
    assert _links(_read(japanese)) == _links(_read(english))


@pytest.mark.parametrize("name", [*PAGES, *PAGES.values()])
def test_files_that_a_page_links_to_are_there(name: str) -> None:
    files = [target.partition("#")[0] for target in _LINK.findall(_read(name)) if "://" not in target]
    assert [file for file in files if not (ROOT / name).parent.joinpath(file).exists()] == []
