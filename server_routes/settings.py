"""What the operator decides, read once from the environment.

Every limit is ``FLUX_FACE_`` and its name in capitals, e.g. ``FLUX_FACE_MAX_STEPS=30``; the other variables are in
``VARIABLES``. docs/api.md has them all in one table, which a test holds against this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from .addresses import AddressPolicy
from .storage import Storage
from .vault import Vault, VaultError
from .webhooks import check_secret

PREFIX = "FLUX_FACE_"
_MIN_TOKEN_CHARS = 16
# The retry node allows no more.
MOST_ATTEMPTS = 10

VARIABLES: Mapping[str, str] = {
    "API_TOKENS": "bearer tokens, comma-separated name:token; without any, the routes answer to this machine only",
    "ADMINS": "names of tokens that may see all jobs and download models, comma-separated",
    "PROFILES_DIR": "a folder of API-format graphs that become profiles beside the built-in ones",
    "DEFAULT_PROFILE": "profile of a request that names none",
    "MAX_ATTEMPTS": "attempts per image of a request that asks for none; else each profile's own",
    "DATA_DIR": "folder of the job table; by default flux-face in ComfyUI's user folder",
    "DURABLE_KEY": "base64 of 32 random bytes: jobs survive a restart, their photos and results encrypted with it",
    "RAW_GRAPHS": "true takes whole graphs as input.workflow, which can run every installed node",
    "URL_INPUTS": "true fetches photos from https addresses",
    "ALLOWED_HOSTS": "host:port, comma-separated, that photos and webhooks may address though they are not public",
    "WEBHOOK_SECRETS": "whsec_ and base64, comma-separated; they sign webhooks, the first is the newest",
    "CORS_ORIGINS": "origins of web pages that may call the routes, comma-separated",
    "WARM_UP": "profile that is run once at start; the server is ready when it has",
}


class SettingsError(ValueError):
    """An environment variable has a value that cannot be used; the message names it, never a secret."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for and what the server keeps.

    Attributes:
        max_body_bytes: request body, as received (RunPod's runsync limit by default).
        body_seconds: time for the whole body to arrive.
        url_seconds: time for a photo to be fetched from its address.
        max_photo_bytes: photo after base64 decoding.
        max_photo_pixels: photo, width times height.
        max_prompt_chars: characters of the prompt.
        max_steps: sampling steps.
        max_batch: images per job.
        min_side: smallest width or height in pixels.
        max_side: largest width or height in pixels.
        max_total_pixels: width times height times batch_size.
        max_graph_nodes: nodes of a raw graph.
        max_queue: jobs waiting or running; more are refused with 429.
        max_queue_per_caller: the same for one token.
        max_waiting_bytes: photos of waiting and running jobs together.
        jobs_per_minute: submissions of one token.
        requests_per_minute: requests of one token.
        job_seconds: default and largest execution time of a job.
        ttl_seconds: default and largest time from submission to the end.
        result_seconds: how long the pictures of a finished job can be asked for.
        max_results: finished jobs whose pictures are kept.
        max_result_bytes: encoded pictures that are kept, all finished jobs together.
        record_seconds: how long a finished job's state is remembered.
        max_records: finished jobs that are remembered.
        min_free_disk_bytes: with less free space the server is not ready.
    """

    max_body_bytes: int = 20_000_000
    body_seconds: int = 60
    url_seconds: int = 20
    max_photo_bytes: int = 12_000_000
    max_photo_pixels: int = 40_000_000
    max_prompt_chars: int = 2_000
    max_steps: int = 50
    max_batch: int = 8
    min_side: int = 64
    max_side: int = 2_048
    max_total_pixels: int = 8 * 1_024 * 1_024
    max_graph_nodes: int = 500
    max_queue: int = 100
    max_queue_per_caller: int = 100
    max_waiting_bytes: int = 1_000_000_000
    jobs_per_minute: int = 600
    requests_per_minute: int = 6_000
    job_seconds: int = 600
    ttl_seconds: int = 86_400
    result_seconds: int = 1_800
    max_results: int = 1_000
    max_result_bytes: int = 512_000_000
    record_seconds: int = 604_800
    max_records: int = 100_000
    min_free_disk_bytes: int = 200_000_000


@dataclass(frozen=True)
class Settings:
    """The limits, and what ``VARIABLES`` says."""

    limits: Limits
    tokens: Mapping[str, str]
    admins: frozenset[str]
    profiles_dir: Path | None
    default_profile: str
    max_attempts: int | None = None
    data_dir: Path | None = None
    vault: Vault | None = None
    raw_graphs: bool = False
    url_inputs: bool = False
    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    webhook_secrets: tuple[str, ...] = ()
    cors_origins: frozenset[str] = frozenset()
    warm_up: str | None = None
    storage: Storage | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check the environment.

        Raises:
            SettingsError: a value that cannot be used.
        """

        def text(name: str) -> str:
            return environ.get(PREFIX + name, "").strip()

        tokens = _parse_tokens(text("API_TOKENS"))
        try:
            storage = Storage.from_environ(environ)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        return cls(
            limits=_parse_limits(environ),
            tokens=tokens,
            admins=_parse_admins(text("ADMINS"), tokens),
            profiles_dir=_parse_path(text("PROFILES_DIR")),
            default_profile=text("DEFAULT_PROFILE") or "flux1-schnell-gguf",
            max_attempts=_parse_attempts(text("MAX_ATTEMPTS")),
            data_dir=_parse_path(text("DATA_DIR")),
            vault=_parse_key(text("DURABLE_KEY")),
            raw_graphs=_parse_boolean("RAW_GRAPHS", text("RAW_GRAPHS")),
            url_inputs=_parse_boolean("URL_INPUTS", text("URL_INPUTS")),
            addresses=_parse_hosts(text("ALLOWED_HOSTS")),
            webhook_secrets=_parse_secrets(text("WEBHOOK_SECRETS")),
            cors_origins=frozenset(map(_parse_origin, _entries(text("CORS_ORIGINS")))),
            warm_up=text("WARM_UP") or None,
            storage=storage,
        )


def _entries(text: str) -> list[str]:
    return [entry for part in text.split(",") if (entry := part.strip())]


def _parse_limits(environ: Mapping[str, str]) -> Limits:
    values: dict[str, int] = {}
    for limit in fields(Limits):
        name = PREFIX + limit.name.upper()
        text = environ.get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdecimal()) or int(text) < 1:
            raise SettingsError(f"{name} must be a whole number of at least 1, not {text!r}")
        values[limit.name] = int(text)
    return Limits(**values)


def _parse_path(text: str) -> Path | None:
    return Path(text) if text else None


def _parse_boolean(name: str, text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise SettingsError(f"{PREFIX}{name} must be true or false, not {text!r}")


def _parse_attempts(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ATTEMPTS:
        raise SettingsError(f"{PREFIX}MAX_ATTEMPTS must be a whole number from 1 to {MOST_ATTEMPTS}, not {text!r}")
    return int(text)


def _parse_tokens(text: str) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for position, entry in enumerate(_entries(text), start=1):
        name, separator, token = entry.partition(":")
        if not separator or not name:
            raise SettingsError(f"{PREFIX}API_TOKENS: entry {position} is not of the form name:token")
        if name in tokens:
            raise SettingsError(f"{PREFIX}API_TOKENS: the name {name!r} appears twice")
        if len(token) < _MIN_TOKEN_CHARS or not token.isascii():
            raise SettingsError(
                f"{PREFIX}API_TOKENS: the token of {name!r} must be at least {_MIN_TOKEN_CHARS} ASCII characters"
            )
        tokens[name] = token
    return tokens


def _parse_admins(text: str, tokens: Mapping[str, str]) -> frozenset[str]:
    admins = frozenset(_entries(text))
    unknown = sorted(admins - set(tokens))
    if unknown:
        raise SettingsError(f"{PREFIX}ADMINS names no token of {PREFIX}API_TOKENS: {', '.join(unknown)}")
    return admins


def _parse_key(text: str) -> Vault | None:
    if not text:
        return None
    try:
        return Vault(text)
    except VaultError as error:
        raise SettingsError(f"{PREFIX}DURABLE_KEY: {error}") from error


def _parse_hosts(text: str) -> AddressPolicy:
    try:
        return AddressPolicy(frozenset(_entries(text)))
    except ValueError as error:
        raise SettingsError(f"{PREFIX}ALLOWED_HOSTS: {error}") from error


def _parse_secrets(text: str) -> tuple[str, ...]:
    for position, secret in enumerate(_entries(text), start=1):
        try:
            check_secret(secret)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}WEBHOOK_SECRETS: entry {position}: {error}") from error
    return tuple(_entries(text))


def _parse_origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
        raise SettingsError(f"{PREFIX}CORS_ORIGINS: {text!r} is not an origin such as https://example.com")
    return text.lower()
