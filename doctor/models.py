"""The models of a MODEL_TYPE: found or missing, by name and folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .finding import Finding
from .packages import installed
from .subject import Subject

if TYPE_CHECKING:
    from ..catalogue.manifest import Manifest, Model
    from ..catalogue.presence import Presence

Folders = Mapping[str, Sequence[Path]]

STARTER = "starter"
# As starter/prepare.py names them; the published pack has no starter/.
STARTER_FILES = (
    ("diffusion_models", "flux-face-starter-Q8_0.gguf"),
    ("text_encoders", "flux-face-starter-clip_l.safetensors"),
    ("vae", "flux-face-starter-vae.safetensors"),
)


def models(subject: Subject) -> Iterator[Finding]:
    """A finding for each file that is missing or another one, and one for each type that is complete."""
    if not subject.model_types:
        return
    if installed("pydantic") is None:
        yield Finding("models", "fail", "not looked for: pydantic is not installed", "Install the requirements first")
        return
    folders = subject.model_folders or _folders_below(subject.models_dirs)
    for name in subject.model_types:
        yield from _starter(folders) if name == STARTER else _of_catalogue(name, folders)


def _folders_below(directories: Iterable[Path]) -> Folders:
    from ..catalogue.presence import folders_below

    merged: defaultdict[str, list[Path]] = defaultdict(list)
    for directory in directories:
        for name, paths in folders_below(directory).items():
            merged[name] += paths
    return merged


def _starter(folders: Folders) -> Iterator[Finding]:
    missing = [
        (folder, name)
        for folder, name in STARTER_FILES
        if not any((directory / name).is_file() for directory in folders.get(folder, ()))
    ]
    for folder, name in missing:
        yield Finding(
            "models",
            "fail",
            f"{STARTER}: {name} is missing from {_places(folders.get(folder, ()))}",
            "In a checkout run python3 dev.py serve once; an image is built with MODEL_TYPE=starter",
        )
    if not missing:
        yield Finding("models", "ok", f"{STARTER}: {len(STARTER_FILES)} files")


def _of_catalogue(name: str, folders: Folders) -> Iterator[Finding]:
    from ..catalogue.errors import ModelError
    from ..catalogue.manifest import load_manifest
    from ..catalogue.presence import look

    manifest = load_manifest()
    try:
        rows = look(manifest.select([name]), folders)
    except ModelError as error:
        yield Finding("models", "fail", f"MODEL_TYPE {name}: {error.problem}", error.remedy)
        return
    by_id = {model.id: model for model in manifest.models}
    wrong = [row for row in rows if row.state != "found"]
    for row in wrong:
        yield _wrong(name, row, manifest, by_id[row.model], folders)
    if not wrong:
        yield Finding("models", "ok", f"{name}: {len(rows)} files, {_size(row.size for row in rows)}")


def _wrong(name: str, row: Presence, manifest: Manifest, model: Model, folders: Folders) -> Finding:
    licence = manifest.licence_of(model)
    if row.state == "wrong_size":
        what = f"{name}: {row.path} has {row.size} bytes, expected {row.file.size}"
    else:
        places = _places(folders.get(row.file.folder, ()))
        what = f"{name}: {row.file.name} ({_size([row.file.size])}) is missing from {places}"
    accept = f" --accept-licence {model.licence}" if manifest.needs_consent(model) else ""
    replace = " --replace" if row.state == "wrong_size" else ""
    return Finding(
        "models",
        "fail",
        f"{what}; licence: {licence.name}, {licence.link}; commercial use: {licence.commercial}",
        f"In the pack's folder: python catalogue download {model.id}{accept}{replace} --models-dir MODELS "
        f"(from {_origin(model)})",
    )


def _origin(model: Model) -> str:
    source = model.source
    return source.url if hasattr(source, "url") else f"https://huggingface.co/{source.repository}"


def _places(directories: Sequence[Path]) -> str:
    return " and ".join(map(str, directories)) or "every models folder: none was named"


def _size(sizes: Iterable[int | None]) -> str:
    from ..catalogue.hints import size_text

    known = list(sizes)
    if None in known:
        return "size unknown"
    total = sum(size for size in known if size)
    return size_text(total)
