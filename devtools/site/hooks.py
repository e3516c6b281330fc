"""What mkdocs.yml adds to mkdocs: pages that are not below docs/, and links that work on the site.

mkdocs loads this file by its path, with `COMFYUI_PATH` in the environment: ``python3 dev.py docs`` sees to that.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
# mkdocs puts the folder of this file first; its modules are the pack's.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() not in (ROOT, Path(__file__).parent)]
runpy.run_path(str(ROOT / "devtools" / "pack.py"))["load_pack"]()
sys.path.append(os.environ["COMFYUI_PATH"])

from comfy.cli_args import args  # noqa: E402  (needs the path above)

args.cpu = True

from flux_face.devtools.site import pages  # noqa: E402  (needs the pack)
from flux_face.nodes.face.nodes import NODES as FACE_NODES  # noqa: E402
from flux_face.nodes.gguf.nodes import COMMUNITY_NODES  # noqa: E402
from flux_face.nodes.gguf.nodes import NODES as GGUF_NODES  # noqa: E402
from flux_face.nodes.job.nodes import NODES as JOB_NODES  # noqa: E402
from flux_face.nodes.retry.nodes import NODES as RETRY_NODES  # noqa: E402
from flux_face.nodes.skin.nodes import NODES as SKIN_NODES  # noqa: E402

_ALL = [node.GET_NODE_INFO_V1() for node in (*GGUF_NODES, *JOB_NODES, *FACE_NODES, *SKIN_NODES, *RETRY_NODES)]
INFOS: dict[str, dict[str, Any]] = {info["name"]: info for info in _ALL if not info["dev_only"]}
SOURCES = pages.sources(ROOT)
PAGES = {page: source for source, page in SOURCES.items()}
JAPANESE = "日本語"  # a section of mkdocs.yml's navigation


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the nodes' pages, English and Japanese, in the navigation."""
    assert config.nav is not None
    (nodes,) = (section for section in config.nav if "Nodes" in section)
    nodes["Nodes"] = [
        nodes["Nodes"],
        *({info["display_name"]: f"{pages.NODES}/{name}.md"} for name, info in INFOS.items()),
    ]
    (japanese,) = (section for section in config.nav if JAPANESE in section)
    helped = {name: _read(f"{pages.NODE_HELP}/{name}/{pages.JAPANESE}.md") for name in INFOS}
    japanese[JAPANESE].append(
        {"ノード": [{pages.title(page): f"{pages.NODES}/{name}.{pages.JAPANESE}.md"} for name, page in helped.items()]}
    )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere in the repository, and the list of nodes."""
    for source, page in SOURCES.items():
        if not source.startswith("docs/"):
            files.append(File.generated(config, page, content=_read(source)))
    index = pages.node_index(INFOS, {name: f"FluxFace{name}" for name in COMMUNITY_NODES})
    files.append(File.generated(config, f"{pages.NODES}/index.md", content=index))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (mkdocs')
    """Fill in what is made of other files, and mend the links."""
    path = page.file.src_uri
    source = PAGES.get(path)
    if source is None:
        return markdown
    markdown = pages.relink(markdown, source, path, ROOT, SOURCES)
    if source.startswith(pages.NODE_HELP) and Path(source).stem in INFOS:
        markdown = pages.node_page(markdown, INFOS[Path(source).stem])
    if path == "troubleshooting.md":
        markdown = pages.with_errors(markdown, _errors())
    return markdown


def _errors() -> list[pages.Explained]:
    helped = [(f"{pages.NODES}/{name}.md", _read(f"{pages.NODE_HELP}/{name}.md")) for name in INFOS]
    explained = [row for page, help_page in helped for row in pages.node_errors(help_page, page)]
    return [*explained, *pages.api_errors(_read("docs/api.md"))]


def _read(source: str) -> str:
    return (ROOT / source).read_text(encoding="utf-8")
