"""The texts of the pack's nodes: from their schemas, and as the locale files have them."""

from __future__ import annotations

import json
from typing import Any

from flux_face.devtools.pack import ROOT

from .schemas import Info, inputs

LOCALES = ROOT / "locales"

Texts = dict[str, Any]

_WIDGETS = ("BOOLEAN", "COMBO", "FLOAT", "INT", "STRING")


def read_locale(language: str, file: str) -> Texts:
    """A locale file as it is."""
    texts: Texts = json.loads((LOCALES / language / file).read_text(encoding="utf-8"))
    return texts


def write_node_texts(language: str, texts: Texts) -> None:
    """Replaces nodeDefs.json."""
    written = json.dumps(texts, indent=2, ensure_ascii=False) + "\n"
    (LOCALES / language / "nodeDefs.json").write_text(written, encoding="utf-8")


def node_texts(language: str) -> Texts:
    """nodeDefs.json without what `shown_tooltips` adds to it."""
    texts = read_locale(language, "nodeDefs.json")
    for node in texts.values():
        node["inputs"] = {key: text for key, text in node["inputs"].items() if "name" in text}
    return texts


def schema_texts(info: Info) -> Texts:
    """A node's texts as nodeDefs.json has them, from its schema.

    ComfyUI translates names and tooltips; ``options``, the words of a choice, are read by web/options.js.
    """
    texts: Texts = {"display_name": info["display_name"], "description": info["description"], "inputs": {}}
    for name, (kind, rest) in inputs(info).items():
        texts["inputs"][name] = {"name": name, "tooltip": rest["tooltip"]}
        words = {word: word for word in rest.get("options", ()) if _is_ours(name, word)} if kind == "COMBO" else {}
        if words:
            texts["inputs"][name]["options"] = words
    outputs = zip(info["output_name"], info["output"], info["output_tooltips"], strict=True)
    texts["outputs"] = {
        # An output that is named by its type is shown by the type's own name.
        str(slot): {"tooltip": tooltip} if name == kind else {"name": name, "tooltip": tooltip}
        for slot, (name, kind, tooltip) in enumerate(outputs)
    }
    return texts


def _is_ours(name: str, word: str) -> bool:
    """Whether a choice is a word of the pack, not a file nor one of ComfyUI's kinds of text encoder."""
    return "." not in word and name != "type"


def shown_tooltips(info: Info, texts: Texts) -> Texts:
    """What a translated node's ``inputs`` need besides: Nodes 2.0 looks up a socket's tooltip by the name it shows."""
    sockets = [name for name, (kind, rest) in inputs(info).items() if kind not in _WIDGETS or rest.get("forceInput")]
    return {texts["inputs"][name]["name"]: {"tooltip": texts["inputs"][name]["tooltip"]} for name in sockets}
