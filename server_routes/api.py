"""The route table. A new route is a row here; its shapes are in ``schemas``, and docs/api.md has a line for it."""

from __future__ import annotations

from .doctor_handlers import DoctorHandlers
from .job_handlers import MAX_WAIT_MS, JobHandlers
from .jobs import State
from .model_handlers import ModelHandlers
from .operation_handlers import OperationHandlers
from .routing import Access, Parameter, Route

_ID = Parameter("id", "path", {"type": "string"}, "The job's id.")
_WAIT = Parameter(
    "wait", "query", {"type": "integer", "minimum": 1000, "maximum": MAX_WAIT_MS},
    "Milliseconds to wait for the end; then the state is answered as it is.",
)  # fmt: skip
_KEY = Parameter(
    "Idempotency-Key", "header", {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "Your name for this submission: a second one under it is answered with the same job.",
)  # fmt: skip
_ADDRESSES = Parameter(
    "images_as", "query", {"type": "string", "enum": ["url"]},
    "Addresses on this server in place of base64, whatever the job's request asked for.",
)  # fmt: skip
_LIMIT = Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 500}, "At most so many jobs.")
_OFFSET = Parameter("offset", "query", {"type": "integer", "minimum": 0, "maximum": 10_000_000}, "Leave out so many.")
_STATE = Parameter(
    "state", "query",
    {"type": "array", "minItems": 1, "items": {"type": "string", "enum": [state.value for state in State]}},
    "Only jobs in these states, comma-separated.",
)  # fmt: skip
_PICTURES = ("application/json", "image/png", "image/jpeg", "image/webp")
_SUBMISSION = (408, 409, 413, 415, 503)
_PORTRAIT = {
    "input": {"user_photo": "<base64>", "prompt": "portrait of a smiling woman with brown hair", "batch_size": 1}
}
_SWAP = {"input": {"user_photo": "<base64>", "target_image": "<base64>"}}


def route_table(
    jobs: JobHandlers, models: ModelHandlers, operations: OperationHandlers, doctor: DoctorHandlers
) -> list[Route]:
    """Every route, in the order of the document."""
    return [
        Route(
            "POST", "/run", jobs.run, "run", "Start a job", "Started",
            submits=True, body="Body", example=_PORTRAIT, parameters=(_KEY,), refusals=_SUBMISSION,
        ),
        Route(
            "POST", "/runsync", jobs.runsync, "runsync",
            "Start a job and wait for its end; to Accept: image/png (jpeg, webp) its one picture is the answer",
            "Status", submits=True, body="Body", example=_PORTRAIT, parameters=(_WAIT, _KEY), media_types=_PICTURES,
            refusals=(*_SUBMISSION, 406),
        ),
        Route(
            "POST", "/faceswap", jobs.faceswap, "faceswap", "Only the swap: user_photo's face into target_image",
            "Status", submits=True, body="Body", example=_SWAP, parameters=(_WAIT, _KEY), media_types=_PICTURES,
            refusals=(*_SUBMISSION, 406),
        ),
        Route(
            "POST", "/qa", jobs.qa, "qa",
            "Only the verdict on target_image's skin tone, compared with user_photo where it is sent",
            "Status", submits=True, body="Body", example={"input": {"target_image": "<base64>"}},
            parameters=(_WAIT, _KEY), media_types=_PICTURES, refusals=(*_SUBMISSION, 406),
        ),
        Route(
            "GET", "/status/{id}", jobs.status, "status", "A job's state, and its result once it has ended", "Status",
            parameters=(_ID, _ADDRESSES), refusals=(404, 503),
        ),
        Route(
            "POST", "/status/{id}", jobs.status, "statusByPost", "The same, as RunPod's local API asks", "Status",
            parameters=(_ID, _ADDRESSES), refusals=(404, 503),
        ),
        Route(
            "GET", "/stream/{id}", jobs.stream, "stream",
            "A job's progress: server-sent events to Accept: text/event-stream, else the present progress",
            "Stream", parameters=(_ID,), media_types=("application/json", "text/event-stream"), refusals=(404, 503),
        ),
        Route(
            "GET", "/image/{id}/{filename}", jobs.image, "image", "One finished picture's file", "File",
            parameters=(_ID, Parameter("filename", "path", {"type": "string"}, "As the status names it.")),
            media_types=_PICTURES[1:], refusals=(404, 503),
        ),
        Route(
            "POST", "/cancel/{id}", jobs.cancel, "cancel", "Stop a job, waiting or running", "Started",
            parameters=(_ID,), refusals=(404, 503),
        ),
        Route(
            "POST", "/retry/{id}", jobs.retry, "retry", "Let a job that failed or timed out wait again", "Started",
            submits=True, parameters=(_ID,), refusals=(400, 404, 409, 410, 503),
        ),
        Route(
            "GET", "/jobs", jobs.jobs, "jobs", "Your jobs, the newest first", "Jobs",
            parameters=(_STATE, _LIMIT, _OFFSET), refusals=(503,),
        ),
        Route(
            "POST", "/watch", jobs.watch, "watch",
            "Events of your jobs, and for admins of downloads, over a page's web socket to ComfyUI",
            "Watching", body="WatchBody", example={"client_id": "<clientId>"}, refusals=(404, 408, 413, 415),
        ),
        Route("POST", "/purge-queue", jobs.purge_queue, "purgeQueue", "Cancel all your waiting jobs", "Purged"),
        Route(
            "GET", "/profiles", operations.profiles, "profiles", "The graphs that can be run", "Profiles", tag="Server"
        ),
        Route(
            "GET", "/health", operations.health, "health", "The process answers, also while a job runs", "Health",
            access=Access.EVERYONE, tag="Server",
        ),
        Route(
            "GET", "/ready", operations.ready, "ready", "Whether a job sent now would run", "Ready",
            access=Access.EVERYONE, also=(503,), tag="Server",
        ),
        Route(
            "GET", "/metrics", operations.metrics, "metrics", "Numbers for Prometheus", "Text",
            media_types=("text/plain",), tag="Server",
        ),
        Route(
            "GET", "/openapi.json", operations.openapi, "openapi", "This document", "Document",
            access=Access.EVERYONE, tag="Server",
        ),
        Route(
            "GET", "/docs", operations.docs, "docs", "This document as a page", "Text",
            access=Access.EVERYONE, media_types=("text/html",), tag="Server",
        ),
        Route(
            "GET", "/doctor", doctor.doctor, "doctor",
            "Whether this machine can run the pack, and what to do where it cannot, for admins; takes seconds",
            "Doctor", access=Access.ADMINS, tag="Server",
        ),
        Route(
            "GET", "/models", models.models, "models", "The models there are, their terms, and whether they are here",
            "Models", tag="Models",
        ),
        Route(
            "POST", "/models/download", models.download, "download",
            "Download models, for admins; licences that ask for it must be accepted", "Download",
            access=Access.ADMINS, body="DownloadBody", example={"models": ["flux1-schnell-gguf"]},
            refusals=(404, 408, 409, 413, 415), good=202, tag="Models",
        ),
        Route(
            "GET", "/models/download", models.download_status, "downloadStatus", "How the latest download goes",
            "Download", access=Access.ADMINS, tag="Models",
        ),
        Route(
            "POST", "/models/download/cancel", models.cancel_download, "cancelDownload",
            "Stop the download; what has come is gone on with next time", "Download", access=Access.ADMINS,
            tag="Models",
        ),
        Route(
            "POST", "/runpod", jobs.original_faceswap, "originalFaceswap",
            "The original system's face swap: source_image's face into target_image", "Status",
            submits=True, body="OriginalBody",
            example={"input": {"source_image": "<base64>", "target_image": "<base64>"}}, parameters=(_KEY,),
            refusals=_SUBMISSION, base="",
        ),
    ]  # fmt: skip
