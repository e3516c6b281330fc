"""What a client may ask for: parsed strictly, checked against the limits, every mistake named.

``parse`` turns a submission into a draft, whose photos may still have to be fetched; ``Draft.complete`` checks the
photos and makes it a request that can be run. The numbers are checked against the profile that the request chooses, so
a request is complete: every field that the profile's graph takes has a value.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from pydantic import ValidationError

from ..nodes.errors import UserInputError
from ..nodes.job.handoff import parse_photo_reference
from ..nodes.job.photo import PhotoLimits, check_photo
from ..workflows.profiles import Profile, is_api_format
from ..workflows.raw_graph import RawGraphError, adopt, image_field
from .addresses import check_webhook_url
from .bodies import Submission
from .request_models import Body, ImagesAs, JobInput, OutputFormat
from .settings import MOST_ATTEMPTS, Limits, Settings
from .validation import raise_first

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
MAX_SEED = 2**64 - 1
SIDE_STEP = 16  # a Flux latent is 1/8 of the image and is cut into 2x2 patches
MAX_PRIORITY = 10
_MAX_RAW_IMAGES = 16
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class Defaults:
    """What a route takes for granted where a request does not say.

    Attributes:
        profile: the profile, given the names of the photos that were sent.
        images_as: how pictures are returned.
    """

    profile: Callable[[Collection[str]], str]
    images_as: ImagesAs = "base64"


@dataclass(frozen=True)
class JobRequest:
    """A request that can be run.

    Attributes:
        profile: the graph to run.
        values: what goes into the graph, by request field; all that the profile binds but photos and job id.
        photos: the encoded pictures by request field, checked; those that the profile takes.
        seed: the seed of the first attempt; None for a request's own graph, whose seeds are in it.
        output_format: of the returned images.
        quality: 1..100, for JPEG and WebP.
        images_as: how they are returned.
        include_generated: whether to return the images before the swap too.
        preview: whether to hand on the sampler's previews.
        execution_seconds: longest time of running.
        ttl_seconds: longest time from submission to the end.
        priority: higher runs first.
        webhook: address that is told of the end, or None.
        workflow: the request's own graph where ``profile`` was made of one.
    """

    profile: Profile
    values: Mapping[str, Any]
    photos: Mapping[str, bytes] = field(repr=False)
    seed: int | None
    output_format: OutputFormat
    quality: int
    images_as: ImagesAs
    include_generated: bool
    preview: bool
    execution_seconds: float
    ttl_seconds: float
    priority: int
    webhook: str | None
    workflow: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the photos, and of the profile the name."""
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("profile", "photos")}
        return {**kept, "profile": self.profile.name}

    @classmethod
    def from_json(
        cls, kept: Mapping[str, Any], photos: Mapping[str, bytes], profiles: Mapping[str, Profile]
    ) -> JobRequest:
        """What ``to_json`` kept, with its photos.

        Raises:
            UserInputError: ``profile_unknown``: the profile is not there any more.
        """
        if kept["workflow"] is not None:
            profile = _adopt(kept["workflow"], [name.removeprefix(image_field("")) for name in photos])
        else:
            profile = _choose_profile(kept["profile"], profiles)
        return cls(**{**kept, "profile": profile, "photos": photos})


@dataclass(frozen=True)
class Draft:
    """A request whose photos are not checked yet.

    Attributes:
        request: all the rest.
        photos: by request field: base64 text, a data URI, an https address, or the file's bytes.
    """

    request: JobRequest
    photos: Mapping[str, str | bytes] = field(repr=False)

    @property
    def addresses(self) -> dict[str, str]:
        """The photos that have to be fetched, by request field."""
        return {name: text for name, text in self.photos.items() if isinstance(text, str) and _is_address(text)}

    def complete(self, fetched: Mapping[str, bytes], limits: Limits) -> JobRequest:
        """Decode and check the photos. Slow: call it off the event loop.

        Args:
            fetched: the files behind ``addresses``.
            limits: for the photos.

        Raises:
            UserInputError: a photo that cannot be used.
        """
        photos = {}
        for name, source in {**self.photos, **fetched}.items():
            data = source if isinstance(source, bytes) else _decode_base64(name, source, limits)
            check_photo(data, PhotoLimits(limits.max_photo_bytes, limits.max_photo_pixels), name)
            photos[name] = data
        return replace(self.request, photos=photos)


def parse(submission: Submission, profiles: Mapping[str, Profile], defaults: Defaults, settings: Settings) -> Draft:
    """A submission to a draft. Parses megabytes of JSON: call it off the event loop.

    Raises:
        UserInputError: anything that is wrong with it, but for its photos.
    """
    limits = settings.limits
    body = _parse_body(submission)
    given = body.input
    sources: dict[str, str | bytes | None] = {name: getattr(given, name) for name in PHOTO_FIELDS}
    sources.update(_files(given, submission.files))
    if given.workflow is not None:
        profile = _raw_profile(given, sources, settings)
    else:
        sent = [name for name, source in sources.items() if source is not None]
        profile = _choose_profile(given.profile or defaults.profile(sent), profiles)
        if given.images is not None:
            _refuse_field("images", profile)
    _refuse_unused(given, sources, profile)
    photos = _required_photos(profile, sources, settings)
    execution_ms = _policy_ms("executionTimeout", body.policy.executionTimeout, limits.job_seconds)
    ttl_ms = _policy_ms("ttl", body.policy.ttl, limits.ttl_seconds)
    _check_range("policy.priority", body.policy.priority, -MAX_PRIORITY, MAX_PRIORITY)
    _check_range("quality", given.quality, 1, 100)
    images_as = given.images_as or defaults.images_as
    if images_as == "s3" and settings.storage is None:
        raise UserInputError(
            "storage_missing", "images_as", "this server has no storage to upload to", "Use base64 or url"
        )
    if body.webhook is not None:
        if not settings.webhook_secrets:
            raise UserInputError(
                "webhook_off", "webhook", "this server has no secret to sign webhooks with", "Ask for the status"
            )
        check_webhook_url(body.webhook, settings.addresses)
    seed = secrets.randbits(32) if given.seed is None else given.seed
    _check_range("seed", seed, 0, MAX_SEED)
    return Draft(
        JobRequest(
            profile=profile,
            values=_values(given, profile, seed, limits),
            photos={},
            seed=None if given.workflow is not None else seed,
            output_format=given.output_format,
            quality=given.quality,
            images_as=images_as,
            include_generated=given.include_generated,
            preview=given.preview,
            execution_seconds=execution_ms / 1000,
            ttl_seconds=ttl_ms / 1000,
            priority=body.policy.priority or -int(body.policy.lowPriority),
            webhook=body.webhook,
            workflow=given.workflow,
        ),
        photos,
    )


def _parse_body(submission: Submission) -> Body:
    try:
        raw = json.loads(submission.json)
    except (ValueError, RecursionError) as error:
        raise UserInputError(
            "body_not_json", "body", "the body is not valid JSON", 'Send {"input": {"user_photo": ..., "prompt": ...}}'
        ) from error
    if not isinstance(raw, dict):
        raise UserInputError("body_not_object", "body", "the body is not a JSON object", 'Send {"input": {...}}')
    try:
        return Body.model_validate(raw)
    except ValidationError as error:
        raise_first(error, Body)


def _files(given: JobInput, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The form's files by request field."""
    for name in files:
        if name not in PHOTO_FIELDS:
            raise UserInputError(
                "field_unknown", name[:100], "there is no such file", f"Send files as {' or '.join(PHOTO_FIELDS)}"
            )
        if getattr(given, name) is not None:
            raise UserInputError("field_twice", name, "it is in the input and among the files", "Send it once")
    return dict(files)


def _choose_profile(name: str, profiles: Mapping[str, Profile]) -> Profile:
    if name not in profiles:
        raise UserInputError(
            "profile_unknown",
            "profile",
            f"there is no profile {name[:100]!r}",
            f"Choose one of {', '.join(sorted(profiles))}",
        )
    return profiles[name]


def _raw_profile(given: JobInput, sources: dict[str, str | bytes | None], settings: Settings) -> Profile:
    """The request's own graph as a profile; its pictures are added to the sources."""
    assert given.workflow is not None
    if not settings.raw_graphs:
        raise UserInputError(
            "workflow_off",
            "workflow",
            "this server runs its own profiles only",
            "Choose a profile; the operator allows graphs with FLUX_FACE_RAW_GRAPHS=true",
        )
    if given.profile is not None:
        raise UserInputError("field_unused", "profile", "the request brings its own graph", "Leave one of them out")
    if len(given.workflow) > settings.limits.max_graph_nodes or not is_api_format(given.workflow):
        raise UserInputError(
            "workflow_invalid",
            "workflow",
            f"it is not a graph in API format of at most {settings.limits.max_graph_nodes} nodes",
            "Export it with 'Export (API)'",
        )
    for node in given.workflow.values():
        if any(isinstance(value, str) and parse_photo_reference(value) for value in node["inputs"].values()):
            raise UserInputError(
                "workflow_invalid", "workflow", "it refers to the photo of a job", "Send its pictures as images"
            )
    images = given.images or []
    if len(images) > _MAX_RAW_IMAGES:
        raise UserInputError(
            "value_out_of_range", "images", f"there are {len(images)}", f"Send at most {_MAX_RAW_IMAGES}"
        )
    names = [image.name for image in images]
    if len(set(names)) < len(names):
        raise UserInputError("field_twice", "images", "two images have one name", "Give each its own name")
    sources.update({image_field(image.name): image.image for image in images})
    return _adopt(given.workflow, names)


def _adopt(workflow: Mapping[str, Any], names: list[str]) -> Profile:
    try:
        return adopt(workflow, names)
    except RawGraphError as error:
        raise UserInputError("workflow_invalid", "workflow", str(error), "Correct the graph or the images") from error


def _refuse_unused(given: JobInput, sources: Mapping[str, object], profile: Profile) -> None:
    for name in _GRAPH_FIELDS:
        if getattr(given, name) is not None and name not in profile.bindings:
            _refuse_field(name, profile)
    for name, source in sources.items():
        if source is not None and name not in profile.bindings:
            _refuse_field(name, profile)


def _refuse_field(name: str, profile: Profile) -> NoReturn:
    raise UserInputError(
        "field_unused",
        name,
        f"the graph of profile {profile.name!r} has no place for it",
        "Leave the field out or choose another profile",
    )


def _required_photos(
    profile: Profile, sources: Mapping[str, str | bytes | None], settings: Settings
) -> dict[str, str | bytes]:
    photos: dict[str, str | bytes] = {}
    for name, source in sources.items():
        if name not in profile.bindings:
            continue
        if not source:
            raise UserInputError(
                "field_missing", name, "the photo is missing", "Send a PNG, JPEG or WebP photo as base64 or data URI"
            )
        if isinstance(source, str) and _is_address(source) and not settings.url_inputs:
            raise UserInputError(
                "photo_url", name, "this server fetches no addresses", "Send the photo as base64 or data URI"
            )
        photos[name] = source
    return photos


def _values(given: JobInput, profile: Profile, seed: int, limits: Limits) -> dict[str, Any]:
    values: dict[str, Any] = {"seed": seed} if "seed" in profile.bindings else {}
    for name, default in profile.defaults.items():
        value = getattr(given, name)
        values[name] = default if value is None else value
    _check_sizes(values, limits)
    if given.several_faces_in_photo is not None:
        values["several_faces_in_photo"] = given.several_faces_in_photo
    if "prompt" in profile.bindings:
        values["prompt"] = _check_prompt(given.prompt, limits)
    return values


def _check_sizes(values: Mapping[str, Any], limits: Limits) -> None:
    if "num_steps" in values:
        _check_range("num_steps", values["num_steps"], 1, limits.max_steps)
    if "batch_size" in values:
        _check_range("batch_size", values["batch_size"], 1, limits.max_batch)
    if "max_attempts" in values:
        _check_range("max_attempts", values["max_attempts"], 1, MOST_ATTEMPTS)
    for name in ("width", "height"):
        if name in values:
            _check_range(name, values[name], limits.min_side, limits.max_side)
            if values[name] % SIDE_STEP:
                below = values[name] // SIDE_STEP * SIDE_STEP
                raise UserInputError(
                    "value_step",
                    name,
                    f"the value is {values[name]} and must be a multiple of {SIDE_STEP}",
                    f"Use {max(below, limits.min_side)} or {below + SIDE_STEP}",
                )
    total = values.get("width", 1) * values.get("height", 1) * values.get("batch_size", 1)
    if total > limits.max_total_pixels:
        raise UserInputError(
            "job_too_large",
            "batch_size",
            f"width x height x batch_size is {total} pixels and the limit is {limits.max_total_pixels}",
            "Ask for smaller or fewer images",
        )


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserInputError(
            "value_out_of_range", name, f"the value is {value}", f"Use a whole number from {low} to {high}"
        )


def _policy_ms(name: str, value: int | None, limit_seconds: int) -> int:
    if value is None:
        return limit_seconds * 1000
    _check_range(f"policy.{name}", value, 1000, limit_seconds * 1000)
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


def _is_address(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def _decode_base64(name: str, text: str, limits: Limits) -> bytes:
    prefix = _DATA_URI.match(text)
    encoded = text[prefix.end() :] if prefix else text
    if len(encoded) > (limits.max_photo_bytes + 2) // 3 * 4 * 1.05:  # room for line breaks
        raise UserInputError(
            "photo_too_large",
            name,
            f"the photo is over the limit of {limits.max_photo_bytes} bytes",
            "Send a smaller or more strongly compressed photo",
        )
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserInputError(
            "photo_base64",
            name,
            "the text is not valid base64",
            "Send base64 with its padding, or data:image/...;base64,...",
        ) from error
