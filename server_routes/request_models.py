"""The body of a request as its client writes it: fields, types and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

OutputFormat = Literal["png", "jpeg", "webp"]
ImagesAs = Literal["base64", "url", "s3", "none"]
_PHOTO = "base64, a data URI or, where the server allows it, an https address of a PNG, JPEG or WebP image"


def _whole(value: object) -> object:
    """JSON has no integers: 20.0 is one, and so some clients write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]


class NamedImage(BaseModel):
    """A picture for the LoadImage nodes of a request's own graph that mention its name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    image: str = Field(description=_PHOTO)


class JobInput(BaseModel):
    """The ``input`` object of a request, before limits and profile are applied."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    user_photo: str | None = Field(default=None, description=f"The face: {_PHOTO} that shows exactly one.")
    target_image: str | None = Field(default=None, description=f"The picture that gets the face: {_PHOTO}.")
    prompt: str | None = Field(default=None, description="What the portrait shows.")
    num_steps: Whole | None = Field(default=None, description="Sampling steps; the profile's own if left out.")
    batch_size: Whole | None = Field(
        default=None, description="Pictures to make; the profile's own number if left out."
    )
    width: Whole | None = Field(default=None, description="Pixels, a multiple of 16.")
    height: Whole | None = Field(default=None, description="Pixels, a multiple of 16.")
    seed: Whole | None = Field(
        default=None, description="Of the first attempt; by chance if left out. The result names it."
    )
    profile: str | None = Field(default=None, description="Which graph runs; GET /profiles lists them.")
    max_attempts: Whole | None = Field(default=None, description="The most attempts per picture, the first included.")
    several_faces_in_photo: Literal["error", "largest"] | None = Field(
        default=None, description="Whether a photo with several faces is refused or its largest face taken."
    )
    output_format: OutputFormat = Field(default="png", description="File format of the pictures.")
    quality: Whole = Field(default=90, description="Of JPEG and WebP, 1 to 100.")
    images_as: ImagesAs | None = Field(
        default=None,
        description="How pictures are returned: inside the answer as base64, which is the default, as addresses on "
        "this server, uploaded to S3-compatible storage, or not at all.",
    )
    include_generated: bool = Field(default=False, description="Return the pictures before the swap too.")
    preview: bool = Field(default=False, description="Send the sampler's previews to the job's stream.")
    workflow: dict[str, Any] | None = Field(
        default=None, description="A whole graph in API format, where the server allows it, as worker-comfyui takes it."
    )
    images: list[NamedImage] | None = Field(
        default=None, description="The pictures that the workflow's LoadImage nodes name."
    )


class Policy(BaseModel):
    """RunPod's execution policy; times in milliseconds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    executionTimeout: Whole | None = Field(default=None, description="Longest running time.")  # noqa: N815  (RunPod's name)
    ttl: Whole | None = Field(default=None, description="Longest time from submission to the end.")
    lowPriority: bool = Field(default=False, description="The same as priority -1.")  # noqa: N815  (RunPod's name)
    priority: Whole = Field(default=0, description="From -10 to 10; higher runs first.")


class Body(BaseModel):
    """The body of ``/run`` and ``/runsync``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    input: JobInput
    policy: Policy = Policy()
    webhook: str | None = Field(default=None, description="https address that gets the finished job's status by POST.")
