"""The Japanese README says what the English one says: the same headings, tables, commands, pictures and links."""

from __future__ import annotations

import re
from typing import Any

import pytest

from flux_face.devtools.pack import ROOT

ENGLISH, JAPANESE = "README.md", "README.ja.md"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+# .*$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)]+)\)")


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _outline(text: str) -> list[Any]:
    """The levels of the headings, and below each the rows and columns of its tables."""
    lines = _BLOCK.sub("", text).splitlines()
    return [
        len(line) - len(line.lstrip("#")) if line.startswith("#") else line.count("|")
        for line in lines
        if line.startswith(("#", "|"))
    ]


def _commands(text: str) -> list[tuple[str, str]]:
    """The code blocks, without the comments, which are in the page's language."""
    return [(language, _COMMENT.sub("", code)) for language, code in _BLOCK.findall(text)]


def _links(text: str, other: str) -> list[str]:
    return [target for target in _LINK.findall(text) if target != other]


def test_readmes_link_to_each_other_at_the_top() -> None:
    assert f"[日本語]({JAPANESE})" in _read(ENGLISH).splitlines()[:5]
    assert f"[English]({ENGLISH})" in _read(JAPANESE).splitlines()[:5]


def test_readmes_have_the_same_outline() -> None:
    assert _outline(_read(JAPANESE)) == _outline(_read(ENGLISH))


def test_readmes_have_the_same_commands() -> None:
    assert _commands(_read(ENGLISH))
    assert _commands(_read(JAPANESE)) == _commands(_read(ENGLISH))


def test_readmes_have_the_same_links() -> None:
    assert _links(_read(JAPANESE), ENGLISH) == _links(_read(ENGLISH), JAPANESE)


@pytest.mark.parametrize("name", [ENGLISH, JAPANESE])
def test_files_that_a_readme_links_to_are_there(name: str) -> None:
    files = [target.partition("#")[0] for target in _LINK.findall(_read(name)) if "://" not in target]
    assert [file for file in files if not (ROOT / file).exists()] == []
