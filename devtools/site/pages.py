"""The site's pages that lie elsewhere in the repository or are made of what does; plain Markdown in and out.

Paths are POSIX: a *source* is a file's path in the repository, a *page* its path in the site.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Shown under another name than their own; whatever lies in docs/ keeps its name.
MOVED = {
    "README.md": "index.md",
    "README.ja.md": "index.ja.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "starter/README.md": "starter.md",
}
NODE_HELP, NODES = "web/docs", "nodes"
JAPANESE = "ja"
REPOSITORY = "https://github.com/flux-face/flux-face/blob/HEAD"

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_FENCE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)
_ERRORS = re.compile(r"<!-- errors -->.*<!-- /errors -->", re.DOTALL)
_CODES = re.compile(r"`(\w+)`")


@dataclass(frozen=True)
class Explained:
    """What one place says of an error.

    Attributes:
        code: as in the brackets of its message.
        place: Markdown that says where it comes from.
        meaning, remedy: sentences.
    """

    code: str
    place: str
    meaning: str
    remedy: str


class BrokenLinkError(ValueError):
    """A page links to a file that is not in the repository."""


def sources(root: Path) -> dict[str, str]:
    """Source of every page that is a file of the repository -> the page."""
    found = dict(MOVED)
    for path in sorted((root / NODE_HELP).glob("*.md")):
        found[f"{NODE_HELP}/{path.name}"] = f"{NODES}/{path.name}"
        found[f"{NODE_HELP}/{path.stem}/{JAPANESE}.md"] = f"{NODES}/{path.stem}.{JAPANESE}.md"
    for path in sorted((root / "docs").rglob("*")):
        if path.is_file():
            found[path.relative_to(root).as_posix()] = path.relative_to(root / "docs").as_posix()
    return found


def relink(markdown: str, source: str, page: str, root: Path, pages: Mapping[str, str]) -> str:
    """A source's Markdown with its relative links made to lead to pages, or else to the repository's host.

    Args:
        markdown: the source's text.
        source: where it lies.
        page: where it is shown.
        root: the repository.
        pages: of `sources`.

    Raises:
        BrokenLinkError: a link leads nowhere.
    """

    def replaced(found: re.Match[str]) -> str:
        target, _, anchor = found[2].partition("#")
        if not target or ":" in target:
            return found[0]
        wanted = os.path.normpath(os.path.join(os.path.dirname(source), target)).replace(os.sep, "/")  # noqa: PTH118, PTH120 (of no real file)
        if wanted == NODE_HELP:
            wanted_page: str | None = f"{NODES}/index.md"
        else:
            wanted_page = pages.get(wanted)
        if wanted_page is not None:
            link = os.path.relpath(wanted_page, os.path.dirname(page)).replace(os.sep, "/")  # noqa: PTH120 (of no real file)
        elif (root / wanted).exists():
            link = f"{REPOSITORY}/{wanted}"
        else:
            raise BrokenLinkError(f"{source} links to {target}, which is not in the repository")
        return f"{found[1]}{link}{'#' + anchor if anchor else ''}{found[3]}"

    # What is shown as code is no link.
    parts = _FENCE.split(markdown)
    return "".join(part if index % 2 else _LINK.sub(replaced, part) for index, part in enumerate(parts))


def title(markdown: str) -> str:
    """A page's title, its first line."""
    return markdown.partition("\n")[0].removeprefix("# ")


def node_page(markdown: str, info: Mapping[str, Any]) -> str:
    """A node's help page with what only its schema knows, below its title.

    Args:
        markdown: its help page.
        info: the node in ``/object_info``.
    """
    heading, _, rest = markdown.partition("\n")
    also = [f"`{alias}`" for alias in info["search_aliases"]]
    facts = f"`{info['name']}`, in *{info['category'].replace('/', ' → ')}*"
    found = f"; also found as {', '.join(also)}" if also else ""
    return f"{heading}\n\n{facts}{found}.\n{rest}"


def node_index(infos: Mapping[str, Mapping[str, Any]], same: Mapping[str, str]) -> str:
    """The page that lists all nodes, by category.

    Args:
        infos: node id -> the node in ``/object_info``.
        same: further ids -> the node id that they are.
    """
    lines = [
        "# Nodes",
        "",
        "Made from the nodes' own definitions and help pages. The same help opens in the web page at a node's *?*.",
    ]
    for category in sorted({info["category"] for info in infos.values()}):
        lines += ["", f"## {category.rpartition('/')[2].capitalize()}", "", "| Node | What it does |", "| --- | --- |"]
        lines += [
            f"| [{info['display_name']}]({name}.md) | {info['description'].partition('. ')[0].rstrip('.')}. |"
            for name, info in infos.items()
            if info["category"] == category
        ]
    lines += [
        "",
        "## Under the community's names",
        "",
        "The same nodes, so that existing workflows open unchanged.",
        "",
    ]
    lines += ["| Name | Node |", "| --- | --- |"]
    lines += [f"| `{other}` | [{infos[name]['display_name']}]({name}.md) |" for other, name in same.items()]
    return "\n".join(lines) + "\n"


def node_errors(markdown: str, page: str) -> Iterator[Explained]:
    """The rows of a help page's table of errors.

    Args:
        markdown: the help page.
        page: where it is shown.
    """
    _, _, section = markdown.partition("\n## What can go wrong\n")
    for code, meaning, remedy in _rows(section.partition("\n## ")[0], 3):
        yield Explained(code, f"[{title(markdown)}]({page})", meaning, remedy)


def api_errors(markdown: str) -> Iterator[Explained]:
    """The rows of the tables of errors of docs/api.md."""
    _, _, section = markdown.partition("\n## Errors\n")
    section = section.partition("\n## ")[0]
    for code, status, meaning, remedy in _rows(section, 4):
        yield Explained(code, f"[HTTP API](api.md#errors), status {status}", meaning, remedy)
    for code, meaning, remedy in _rows(section, 3):
        yield Explained(code, "[HTTP API](api.md#errors), a job's `error`", meaning, remedy)


def with_errors(markdown: str, explained: list[Explained]) -> str:
    """A page with the errors in the place that is marked for them.

    Each code has a heading, whose anchor is the code, in alphabetical order, and below it what is said of it.
    """
    told: dict[str, dict[str, list[str]]] = {}  # code -> text -> where that is said
    for row in explained:
        told.setdefault(row.code, {}).setdefault(f"{row.meaning} {row.remedy}", []).append(row.place)
    blocks = []
    for code, texts in sorted(told.items()):
        blocks.append(f"### `[{code}]` {{#{code}}}")
        blocks += [f"{text} ({'; '.join(places)})" for text, places in texts.items()]
    return _ERRORS.sub(lambda _: "\n\n".join(blocks), markdown)


def _rows(section: str, columns: int) -> Iterator[tuple[str, ...]]:
    """The rows of all tables with so many columns, one for each code that the first cell names."""
    for line in _ROW.findall(section):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == columns:
            for code in _CODES.findall(cells[0]):
                yield (code, *cells[1:])
