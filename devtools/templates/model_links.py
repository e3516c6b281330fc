"""Where the web page finds the models that a template names and the user lacks."""

from __future__ import annotations

from typing import Any

from ...catalogue.manifest import load_manifest
from ...catalogue.sources import address_of


def model_links(values: list[Any]) -> list[dict[str, str]]:
    """File, address and folder of every model of the catalogue among a node's widget values.

    As the web page wants them in a node's ``properties.models``.
    """
    models = {model.name: model for model in load_manifest().models}
    named = [models[value] for value in values if isinstance(value, str) and value in models]
    return [{"name": model.name, "url": address_of(model.source), "directory": model.folder} for model in named]
