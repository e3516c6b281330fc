"""What a client may ask for: parsed strictly, checked against the limits, every mistake named.

The numbers are checked against the profile that the request chooses, so a request is complete after ``parse``:
every field that the profile's graph takes has a value.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from ..nodes.errors import UserInputError
from ..nodes.job.photo import PhotoLimits, check_photo
from ..workflows.profiles import Profile
from .settings import MOST_ATTEMPTS, Limits

OutputFormat = Literal["png", "jpeg", "webp"]
PHOTO_FIELDS = ("user_photo", "target_image")
_GRAPH_FIELDS = (
    "prompt",
    "num_steps",
    "batch_size",
    "width",
    "height",
    "seed",
    "max_attempts",
    "several_faces_in_photo",
)
_MAX_SEED = 2**64 - 1
_SIDE_STEP = 16  # a Flux latent is 1/8 of the image and is cut into 2x2 patches
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


class JobInput(BaseModel):
    """The ``input`` object of a request, before limits and profile are applied."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    user_photo: str | None = None
    target_image: str | None = None
    prompt: str | None = None
    num_steps: int | None = None
    batch_size: int | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    profile: str | None = None
    max_attempts: int | None = None
    several_faces_in_photo: Literal["error", "largest"] | None = None
    output_format: OutputFormat = "png"
    quality: int = 90
    include_generated: bool = False


class Policy(BaseModel):
    """RunPod's execution policy; times in milliseconds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    executionTimeout: int | None = None  # noqa: N815  (RunPod's name on the wire)
    ttl: int | None = None


class Body(BaseModel):
    """The body of ``/run`` and ``/runsync``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    input: JobInput
    policy: Policy = Policy()


@dataclass(frozen=True)
class JobRequest:
    """A request that can be run.

    Attributes:
        profile: the graph to run.
        values: what goes into the graph, by request field; all that the profile binds but photo and job id.
        photos: the encoded pictures by request field, checked; those that the profile takes.
        seed: the seed of the first attempt.
        output_format: of the returned images.
        quality: 1..100, for JPEG and WebP.
        include_generated: whether to return the images before the swap too.
        execution_seconds: longest time of running.
        ttl_seconds: longest time from submission to the end.
    """

    profile: Profile
    values: Mapping[str, Any]
    photos: Mapping[str, bytes]
    seed: int
    output_format: OutputFormat
    quality: int
    include_generated: bool
    execution_seconds: float
    ttl_seconds: float


def parse(body: bytes, profiles: Mapping[str, Profile], default_profile: str, limits: Limits) -> JobRequest:
    """A body as received to a request that can be run. Decodes the photo once: call it off the event loop.

    Raises:
        UserInputError: anything that is wrong with it.
    """
    parsed = _parse_body(body)
    given = parsed.input
    profile = _choose_profile(given.profile, profiles, default_profile)
    _refuse_unused(given, profile)
    execution_ms = _policy_ms("executionTimeout", parsed.policy.executionTimeout, limits.job_seconds)
    ttl_ms = _policy_ms("ttl", parsed.policy.ttl, limits.ttl_seconds)
    _check_range("quality", given.quality, 1, 100)
    seed = secrets.randbits(32) if given.seed is None else given.seed
    _check_range("seed", seed, 0, _MAX_SEED)

    values: dict[str, Any] = {"seed": seed} if "seed" in profile.bindings else {}
    for field, default in profile.defaults.items():
        value = getattr(given, field)
        values[field] = default if value is None else value
    _check_sizes(values, limits)
    if given.several_faces_in_photo is not None:
        values["several_faces_in_photo"] = given.several_faces_in_photo
    if "prompt" in profile.bindings:
        values["prompt"] = _check_prompt(given.prompt, limits)
    return JobRequest(
        profile=profile,
        values=values,
        photos={
            field: _decode_photo(field, getattr(given, field), limits)
            for field in PHOTO_FIELDS
            if field in profile.bindings
        },
        seed=seed,
        output_format=given.output_format,
        quality=given.quality,
        include_generated=given.include_generated,
        execution_seconds=execution_ms / 1000,
        ttl_seconds=ttl_ms / 1000,
    )


def _parse_body(body: bytes) -> Body:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserInputError(
            "body_not_json", "body", "the body is not valid JSON", 'Send {"input": {"user_photo": ..., "prompt": ...}}'
        ) from error
    if not isinstance(raw, dict):
        raise UserInputError("body_not_object", "body", "the body is not a JSON object", 'Send {"input": {...}}')
    try:
        return Body.model_validate(raw)
    except ValidationError as error:
        _raise_first(error)


def _raise_first(error: ValidationError) -> NoReturn:
    """Pydantic's first finding in our words; its own message may quote the photo."""
    first = error.errors(include_input=False, include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    field = ".".join(path[1:] if path[0] == "input" and len(path) > 1 else path)
    if first["type"] == "missing":
        raise UserInputError("field_missing", field, "the field is missing", "Add it to the request")
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {"input": JobInput, "policy": Policy}
        model = parts.get(path[0], Body) if len(path) > 1 else Body
        known = ", ".join(sorted(model.model_fields))
        raise UserInputError("field_unknown", field, "there is no such field", f"Remove it; the fields are {known}")
    problem = first["msg"].removeprefix("Input should be ")
    raise UserInputError("field_type", field, f"the value must be {problem}", "Correct the value")


def _choose_profile(name: str | None, profiles: Mapping[str, Profile], default: str) -> Profile:
    name = default if name is None else name
    if name not in profiles:
        raise UserInputError(
            "profile_unknown",
            "profile",
            f"there is no profile {name[:100]!r}",
            f"Choose one of {', '.join(sorted(profiles))}",
        )
    return profiles[name]


def _refuse_unused(given: JobInput, profile: Profile) -> None:
    for field in (*PHOTO_FIELDS, *_GRAPH_FIELDS):
        if getattr(given, field) is not None and field not in profile.bindings:
            raise UserInputError(
                "field_unused",
                field,
                f"the graph of profile {profile.name!r} has no place for it",
                "Leave the field out or choose another profile",
            )


def _check_sizes(values: Mapping[str, Any], limits: Limits) -> None:
    if "num_steps" in values:
        _check_range("num_steps", values["num_steps"], 1, limits.max_steps)
    if "batch_size" in values:
        _check_range("batch_size", values["batch_size"], 1, limits.max_batch)
    if "max_attempts" in values:
        _check_range("max_attempts", values["max_attempts"], 1, MOST_ATTEMPTS)
    for field in ("width", "height"):
        if field in values:
            _check_range(field, values[field], limits.min_side, limits.max_side)
            if values[field] % _SIDE_STEP:
                below = values[field] // _SIDE_STEP * _SIDE_STEP
                raise UserInputError(
                    "value_step",
                    field,
                    f"the value is {values[field]} and must be a multiple of {_SIDE_STEP}",
                    f"Use {max(below, limits.min_side)} or {below + _SIDE_STEP}",
                )
    total = values.get("width", 1) * values.get("height", 1) * values.get("batch_size", 1)
    if total > limits.max_total_pixels:
        raise UserInputError(
            "job_too_large",
            "batch_size",
            f"width x height x batch_size is {total} pixels and the limit is {limits.max_total_pixels}",
            "Ask for smaller or fewer images",
        )


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserInputError(
            "value_out_of_range", field, f"the value is {value}", f"Use a whole number from {low} to {high}"
        )


def _policy_ms(field: str, value: int | None, limit_seconds: int) -> int:
    if value is None:
        return limit_seconds * 1000
    _check_range(f"policy.{field}", value, 1000, limit_seconds * 1000)
    return value


def _check_prompt(prompt: str | None, limits: Limits) -> str:
    if prompt is None or not prompt.strip():
        raise UserInputError("field_missing", "prompt", "the prompt is missing or empty", "Describe the portrait")
    if len(prompt) > limits.max_prompt_chars:
        raise UserInputError(
            "prompt_too_long",
            "prompt",
            f"the prompt has {len(prompt)} characters and the limit is {limits.max_prompt_chars}",
            "Shorten the prompt",
        )
    if any("\ud800" <= character <= "\udfff" for character in prompt):  # JSON can hold them, UTF-8 cannot
        raise UserInputError("prompt_text", "prompt", "the prompt has half a surrogate pair", "Send valid Unicode")
    return prompt


def _decode_photo(field: str, text: str | None, limits: Limits) -> bytes:
    if not text:
        raise UserInputError(
            "field_missing", field, "the photo is missing", "Send a PNG, JPEG or WebP photo as base64 or data URI"
        )
    if text[:8].lower().startswith(("http://", "https://")):
        raise UserInputError("photo_url", field, "addresses are not fetched", "Send the photo as base64 or data URI")
    prefix = _DATA_URI.match(text)
    encoded = text[prefix.end() :] if prefix else text
    if len(encoded) > (limits.max_photo_bytes + 2) // 3 * 4 * 1.05:  # room for line breaks
        raise UserInputError(
            "photo_too_large",
            field,
            f"the photo is over the limit of {limits.max_photo_bytes} bytes",
            "Send a smaller or more strongly compressed photo",
        )
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserInputError(
            "photo_base64",
            field,
            "the text is not valid base64",
            "Send base64 with its padding, or data:image/...;base64,...",
        ) from error
    check_photo(data, PhotoLimits(limits.max_photo_bytes, limits.max_photo_pixels), field)
    return data
