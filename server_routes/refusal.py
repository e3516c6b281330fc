"""ComfyUI's findings in the words of the API: the field, the problem, the remedy; no path, no traceback."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..catalogue.hints import where_to_get
from ..nodes.errors import UserInputError
from ..workflows.profiles import Profile
from ..workflows.raw_graph import NAME
from .comfy_queue import Outcome, Refusal

# Loader input -> the folder below models/ where its file belongs.
_MODEL_FOLDERS = (
    (re.compile(r"unet_name"), "unet"),
    (re.compile(r"clip_name\d?"), "clip"),
    (re.compile(r"vae_name"), "vae"),
    (re.compile(r"ckpt_name"), "checkpoints"),
    (re.compile(r"lora_name"), "loras"),
    (re.compile(r"detector|recogniser|swapper"), "insightface"),
)
_CODED = re.compile(r"\[(\w+)\] (.*)", re.DOTALL)
_USER_ERROR = f".{UserInputError.__name__}"


def explain_refusals(refusals: Sequence[Refusal], profile: Profile) -> UserInputError:
    """Why the profile's graph cannot be queued: all missing model files, else the first finding."""
    missing = [(folder, str(refusal.value)) for refusal in refusals if (folder := _model_folder(refusal))]
    if missing:
        places = {name: where_to_get(name) for _, name in missing}
        sources = "".join(f". {name}: {place}" for name, place in places.items() if place)
        return UserInputError(
            "model_missing",
            "profile",
            f"profile {profile.name!r} needs model files that are not there: "
            f"{', '.join(f'models/{folder}/{name}' for folder, name in missing)}",
            f"Put them there, or choose a profile whose models are installed{sources}",
        )
    first = refusals[0]
    if first.kind == "missing_node_type":
        return UserInputError(
            "node_missing",
            _graph_field(profile),
            f"profile {profile.name!r} needs the node type {first.class_type!r}, which is not installed",
            "Install the pack that has it, or choose another profile",
        )
    name = first.input_name or ""
    field = profile.field_at(first.node_id, name) if first.node_id is not None else None
    return UserInputError(
        "graph_invalid",
        field or _graph_field(profile),
        f"ComfyUI refuses the graph of profile {profile.name!r} at {first.class_type}.{name} ({first.kind})",
        "Correct the value" if field else "Correct the profile's graph",
    )


def _model_folder(refusal: Refusal) -> str | None:
    if refusal.kind not in ("value_not_in_list", "custom_validation_failed"):
        return None
    folders = (folder for pattern, folder in _MODEL_FOLDERS if pattern.fullmatch(refusal.input_name or ""))
    return next(folders, None)


def explain_outcome(outcome: Outcome, profile: Profile) -> str:
    """Why a job failed while running, as one line that begins with a code in brackets."""
    if outcome.exception_type is not None and outcome.exception_type.endswith(_USER_ERROR):
        coded = _CODED.fullmatch(outcome.message)
        code, told = coded.groups() if coded else ("bad_input", outcome.message)
        field, separator, rest = told.partition(": ")
        asked = profile.field_at(outcome.node_id, field) if outcome.node_id is not None else None
        return f"[{code}] {asked or field}{separator}{rest}"
    if outcome.exception_type is not None and "OutOfMemory" in outcome.exception_type:
        return "[out_of_memory] batch_size: the device ran out of memory. Ask for smaller or fewer images"
    return (
        f"[node_failed] {_graph_field(profile)}: node {outcome.class_type} failed with "
        f"{_short(outcome.exception_type)}. See the server's log"
    )


def _graph_field(profile: Profile) -> str:
    """The request's field that says which graph runs."""
    return NAME if profile.name == NAME else "profile"


def _short(exception_type: str | None) -> str:
    return (exception_type or "an error").rpartition(".")[2]
