"""What the operator decides, read once from the environment.

Every limit is ``FLUX_FACE_`` and its name in capitals, e.g. ``FLUX_FACE_MAX_STEPS=30``. Besides the limits:
``FLUX_FACE_API_TOKENS`` (comma-separated ``name:token``), ``FLUX_FACE_PROFILES_DIR`` (a folder of API-format graphs
that become profiles beside the built-in ones), ``FLUX_FACE_DEFAULT_PROFILE``, ``FLUX_FACE_MAX_ATTEMPTS`` (attempts per
image where a request asks for none; else each profile's own).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

PREFIX = "FLUX_FACE_"
_MIN_TOKEN_CHARS = 16
# The retry node allows no more.
MOST_ATTEMPTS = 10


class SettingsError(ValueError):
    """An environment variable has a value that cannot be used; the message names it, never a secret."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for and what the server keeps.

    Attributes:
        max_body_bytes: request body, as received (RunPod's runsync limit by default).
        body_seconds: time for the whole body to arrive.
        max_photo_bytes: photo after base64 decoding.
        max_photo_pixels: photo, width times height.
        max_prompt_chars: characters of the prompt.
        max_steps: sampling steps.
        max_batch: images per job.
        min_side: smallest width or height in pixels.
        max_side: largest width or height in pixels.
        max_total_pixels: width times height times batch_size.
        max_queue: jobs waiting or running; more are refused with 429.
        job_seconds: default and largest execution time of a job.
        ttl_seconds: default and largest time from submission to the end.
        result_seconds: how long a finished job and its result can be asked for.
        max_results: finished jobs that are kept.
        max_result_bytes: encoded pictures that are kept, all finished jobs together.
    """

    max_body_bytes: int = 20_000_000
    body_seconds: int = 60
    max_photo_bytes: int = 12_000_000
    max_photo_pixels: int = 40_000_000
    max_prompt_chars: int = 2_000
    max_steps: int = 50
    max_batch: int = 8
    min_side: int = 64
    max_side: int = 2_048
    max_total_pixels: int = 8 * 1_024 * 1_024
    max_queue: int = 100
    job_seconds: int = 600
    ttl_seconds: int = 86_400
    result_seconds: int = 1_800
    max_results: int = 1_000
    max_result_bytes: int = 512_000_000


@dataclass(frozen=True)
class Settings:
    """Limits, tokens by name, where profiles come from, and the attempts per image where a request asks for none."""

    limits: Limits
    tokens: Mapping[str, str]
    profiles_dir: Path | None
    default_profile: str
    max_attempts: int | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check the environment.

        Raises:
            SettingsError: a value that cannot be used.
        """
        values: dict[str, int] = {}
        for field in fields(Limits):
            name = PREFIX + field.name.upper()
            text = environ.get(name)
            if text is None:
                continue
            if not text.isdecimal() or int(text) < 1:
                raise SettingsError(f"{name} must be a whole number of at least 1, not {text!r}")
            values[field.name] = int(text)
        profiles_dir = environ.get(PREFIX + "PROFILES_DIR")
        return cls(
            limits=Limits(**values),
            tokens=_parse_tokens(environ.get(PREFIX + "API_TOKENS", "")),
            profiles_dir=Path(profiles_dir) if profiles_dir else None,
            default_profile=environ.get(PREFIX + "DEFAULT_PROFILE", "flux1-schnell-gguf"),
            max_attempts=_parse_attempts(environ.get(PREFIX + "MAX_ATTEMPTS", "").strip()),
        )


def _parse_attempts(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ATTEMPTS:
        raise SettingsError(f"{PREFIX}MAX_ATTEMPTS must be a whole number from 1 to {MOST_ATTEMPTS}, not {text!r}")
    return int(text)


def _parse_tokens(text: str) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for position, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
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
