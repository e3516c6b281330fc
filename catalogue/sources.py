"""Where exactly a model's file is, and what its host says of it.

Hugging Face is asked through its library: it knows the addresses, and its HEAD request gives commit, size and, for
files in large-file storage, the SHA-256 before a redirect hides them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from .errors import ModelError
from .manifest import HubSource, Licence, Model, UrlSource
from .wire import Wire, no_answer, origin, refusal

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Remote:
    """A file at its host.

    Attributes:
        url: its address; on the hub that of one commit.
        size: bytes; None where nobody knows.
        sha256: what it must hash to; None where nobody knows.
        authority: who says so: ``manifest``, ``host``; ``size`` where only the size is known, else ``no``.
        revision: the hub's commit; None elsewhere.
    """

    url: str
    size: int | None
    sha256: str | None
    authority: str
    revision: str | None = None


def address_of(
    source: HubSource | UrlSource, endpoint: str = HUB, shown_as: Literal["resolve", "blob"] = "resolve"
) -> str:
    """Where the file is asked for; the hub leads on to one commit.

    Args:
        endpoint: address of Hugging Face or of a mirror.
        shown_as: ``blob`` for the hub's page about the file, in place of the file.
    """
    if isinstance(source, UrlSource):
        return source.url
    kind = "datasets/" if source.kind == "dataset" else ""
    return f"{endpoint}/{kind}{source.repository}/{shown_as}/{source.revision}/{source.path}"


def resolve(model: Model, licence: Licence, wire: Wire, endpoint: str) -> Remote:
    """Ask the host.

    Args:
        endpoint: address of Hugging Face or of a mirror.

    Raises:
        ModelError: ``model_changed`` where the host has another file than the manifest knows; what `refusal` tells;
            ``huggingface_hub_missing``.
    """
    source = model.source
    if isinstance(source, UrlSource):
        size = model.size
        if size is None:
            size = wire.persist(model.id, lambda: _length(source.url, model, licence, wire))
        return Remote(source.url, size, model.sha256, _authority(model.sha256, None, size))
    remote = wire.persist(model.id, lambda: _ask_hub(source, model, licence, wire, endpoint))
    for ours, theirs, what in ((model.size, remote.size, "bytes"), (model.sha256, remote.sha256, "SHA-256")):
        if ours is not None and theirs is not None and ours != theirs:
            raise ModelError(
                "model_changed",
                model.id,
                f"{source.repository} now has another file of that name ({what}: {theirs}, expected {ours})",
                "Update the pack; if it is up to date, report it as an issue and do not use the file",
            )
    size, sha256 = model.size or remote.size, model.sha256 or remote.sha256
    authority = _authority(model.sha256, remote.sha256, size)
    return Remote(remote.url, size, sha256, authority, remote.revision)


def _authority(ours: str | None, theirs: str | None, size: int | None) -> str:
    return "manifest" if ours else "host" if theirs else "size" if size else "no"


def _length(url: str, model: Model, licence: Licence, wire: Wire) -> int | None:
    with wire.open("HEAD", url, {}) as response:
        status, length = response.status_code, response.headers.get("Content-Length", "")
        if status == 200:
            return int(length) if length.isdigit() else None
        # Some answer only a GET, and so do some signed addresses.
        if status in (405, 501) or origin(response.url) != origin(url):
            return None
        raise refusal(status, response.headers, url, model, licence, with_token=bool(wire.token_for(url)))


def _ask_hub(source: HubSource, model: Model, licence: Licence, wire: Wire, endpoint: str) -> Remote:
    hub = _hub()
    place = {"repo_id": source.repository, "filename": source.path, "repo_type": source.kind, "endpoint": endpoint}
    url = hub.hf_hub_url(**place, revision=source.revision)
    token = wire.token_for(url)
    try:
        # False: never a token that the library finds by itself.
        found = hub.get_hf_file_metadata(url, token=token or False, timeout=wire.timeout[0])
    except hub.errors.HfHubHTTPError as error:
        # Some versions raise it without an answer where the file is not there.
        status, headers = (404, {}) if error.response is None else (error.response.status_code, error.response.headers)
        raise refusal(status, headers, url, model, licence, with_token=token is not None) from error
    # The library's versions speak through different HTTP clients, each with errors of its own.
    except Exception as error:
        raise no_answer(url, error) from error
    pinned = hub.hf_hub_url(**place, revision=found.commit_hash) if found.commit_hash else url
    sha256 = found.etag if re.fullmatch("[0-9a-f]{64}", found.etag or "") else None
    return Remote(pinned, found.size, sha256, "host", found.commit_hash)


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ModelError(
            "huggingface_hub_missing",
            "huggingface_hub",
            "the package, which ComfyUI's transformers bring, is not installed",
            "Run this with ComfyUI's Python, or pip install huggingface_hub",
        ) from error
    return huggingface_hub
