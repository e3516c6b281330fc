"""Where somebody gets a model file that is not there, in words for an error's remedy."""

from __future__ import annotations

from pathlib import PureWindowsPath

from .manifest import Model, load_manifest
from .sources import address_of


def where_to_get(name: str) -> str | None:
    """The page or address, size and licence of a file: ``https://… (6.8 GB, licence: Apache-2.0)``.

    Args:
        name: of the file; folders before it do not matter.

    Returns:
        None for a file that the manifest does not know.
    """
    manifest, name = load_manifest(), PureWindowsPath(name).name
    for model in manifest.models:
        if any(name in (file.name.rpartition("/")[2], *file.aliases) for file in model.files):
            size = "size unknown" if model.size is None else size_text(model.size)
            return f"{page(model)} ({size}, licence: {manifest.licence_of(model).name})"
    return None


def page(model: Model) -> str:
    """Where a person finds it: its page on the hub, which also shows the licence, else its address."""
    return address_of(model.source, shown_as="blob")


def size_text(size: int) -> str:
    """Bytes in the unit that people read."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
