"""Where the web page finds the models that a template names and the user lacks."""

from __future__ import annotations

from typing import Any

from ...catalogue.manifest import HubSource, Model, load_manifest
from ...catalogue.sources import HUB


def model_links(values: list[Any]) -> list[dict[str, str]]:
    """File, address and folder of every model of the catalogue among a node's widget values.

    As the web page wants them in a node's ``properties.models``.
    """
    models = {model.name: model for model in load_manifest().models}
    named = [models[value] for value in values if isinstance(value, str) and value in models]
    return [{"name": model.name, "url": address(model), "directory": model.folder} for model in named]


def address(model: Model) -> str:
    """Where the file is downloaded by hand."""
    source = model.source
    if not isinstance(source, HubSource):
        return source.url
    kind = "datasets/" if source.kind == "dataset" else ""
    return f"{HUB}/{kind}{source.repository}/resolve/{source.revision}/{source.path}"
