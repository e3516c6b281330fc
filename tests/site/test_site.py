"""The documentation's site: it builds, every link leads somewhere, and nothing that users meet is left out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from flux_face.devtools import site
from flux_face.devtools.pack import ROOT
from flux_face.devtools.site.pages import BrokenLinkError, relink, sources
from flux_face.devtools.workspace import Workspace
from flux_face.nodes.gguf.nodes import COMMUNITY_NODES

# Attributes by which a page loads something; what others link to is only followed by a person.
_LOADS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("form", "action")}


class Html(HTMLParser):
    """The anchors of a page, and what it links to or loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src", "action") and value:
                # A link of the page's head such as its predecessor is followed, not loaded.
                self.links.append(("load" if (tag, name) in _LOADS else "follow", value))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Html]:
    """Path in the site -> page, of a strict build."""
    target = tmp_path_factory.mktemp("site")
    assert site.build(Workspace(ROOT), target, os.environ) == 0
    found = {
        path.relative_to(target).as_posix(): Html(path.read_text(encoding="utf-8")) for path in target.rglob("*.html")
    }
    found |= {path.relative_to(target).as_posix(): Html("") for path in target.rglob("*") if path.suffix != ".html"}
    return found


def _internal(built: dict[str, Html]) -> Iterator[tuple[str, str, str]]:
    """Page, file and anchor of every link within the site."""
    for page, html in built.items():
        for _, link in html.links:
            parts = urlsplit(link)
            if not parts.scheme and not parts.netloc:
                path = os.path.normpath(Path(page).parent / unquote(parts.path)) if parts.path else page
                yield page, path.replace(os.sep, "/"), unquote(parts.fragment)


def test_every_link_within_the_site_leads_somewhere(built: dict[str, Html]) -> None:
    links = {link for link in _internal(built) if link[0] != "404.html"}  # its addresses are those of a host's root
    assert len(links) > 500
    files = {*built, *(str(Path(path).parent) for path in built)}
    assert {link for link in links if link[1] not in files} == set()
    assert {link for link in links if link[2] and link[2] not in built[link[1]].anchors} == set()


def test_nothing_is_loaded_from_elsewhere(built: dict[str, Html]) -> None:
    loaded = {link for html in built.values() for kind, link in html.links if kind == "load"}
    assert {link for link in loaded if urlsplit(link).netloc} == set()


def test_every_public_node_has_a_page_and_is_listed(built: dict[str, Html]) -> None:
    public = set(json.loads((ROOT / "tests" / "pack" / "signatures.json").read_text(encoding="utf-8")))
    own = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    listed = {Path(path).stem for page, path, _ in _internal(built) if page == "nodes/index.html"}
    assert own <= listed
    assert {f"nodes/{name}{language}.html" for name in own for language in ("", ".ja")} <= built.keys()
    assert own | COMMUNITY_NODES.keys() <= public


def test_every_error_code_can_be_looked_up(built: dict[str, Html]) -> None:
    anchors = built["troubleshooting.html"].anchors
    rooms = [path for room in ("nodes", "server_routes", "workflows") for path in (ROOT / room).rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in rooms)
    raised = set(re.findall(r'UserInputError\(\s*"(\w+)"', source))
    assert len(raised) > 80
    assert raised - anchors == set()


def test_links_follow_the_files_that_move() -> None:
    pages = sources(ROOT)

    def moved(text: str, source: str) -> str:
        return relink(text, source, pages[source], ROOT, pages)

    assert moved("[a](../README.md#runpod)", "docs/fleet.md") == "[a](index.md#runpod)"
    assert moved("![a](docs/demo.jpg)", "README.md") == "![a](demo.jpg)"
    assert moved("[a](web/docs)", "README.md") == "[a](nodes/index.md)"
    assert moved("[a](../docker/start.sh)", "docs/deploy.md").endswith("/blob/HEAD/docker/start.sh)")
    assert moved("`[a](no.md)` [b](#here) [c](https://example.org)", "README.md").startswith("`[a](no.md)`")
    with pytest.raises(BrokenLinkError, match=r"README\.md links to no\.md"):
        moved("[a](no.md)", "README.md")
