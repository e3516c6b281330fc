"""The table of models, read from manifest.json and checked.

Sizes and hashes are those that public records agree on (``verified: agreed``), that one record states
(``one-source``), or null. Nobody has compared them with the hosts from here; the downloader does, each time.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .errors import ModelError

MANIFEST = Path(__file__).with_name("manifest.json")

Commercial = Literal["yes", "no", "unknown"]
# Without TLS only from this machine, e.g. a mirror.
TRUSTED = re.compile(r"https://|http://(127\.0\.0\.1|localhost)(?=[:/]|$)")
_PART = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*")


def _relative(path: str) -> str:
    # Names that mean the same on every system and cannot leave their folder.
    if not all(_PART.fullmatch(part) and not part.endswith(".") for part in path.split("/")):
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


def _address(url: str) -> str:
    if not TRUSTED.match(url):
        raise ValueError(f"{url!r} is not an https address")
    return url


RelativePath = Annotated[str, AfterValidator(_relative)]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(gt=0)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Licence(_Row):
    """Terms of use. commercial: whether they allow paid work; unknown also where that depends on who you are."""

    name: str
    link: Annotated[str, AfterValidator(_address)]
    commercial: Commercial


class HubSource(_Row):
    """A file of a repository on Hugging Face. revision: a branch, or a commit where two records name the same one."""

    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    path: RelativePath
    revision: str = "main"
    kind: Literal["model", "dataset"] = "model"


class UrlSource(_Row):
    """A file elsewhere, e.g. of a release on GitHub."""

    url: Annotated[str, AfterValidator(_address)]


class Member(_Row):
    """A file of an archive.

    Attributes:
        member: its name in the archive.
        name: its path below the model's folder.
        size, sha256: null where unknown.
        aliases: other file names under which the same network is distributed.
    """

    member: str
    name: RelativePath
    size: Size | None
    sha256: Sha256 | None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelFile:
    """A file as it is saved.

    Attributes:
        folder: name of a folder of models/.
        name: path below it, with forward slashes.
        size: bytes; None where unknown.
        sha256: hexadecimal; None where unknown.
        aliases: other names of the same network.
    """

    folder: str
    name: str
    size: int | None
    sha256: str | None
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """folder/name: where it lies below models/."""
        return f"{self.folder}/{self.name}"


class Model(_Row):
    """Something to download: one file, or an archive with several.

    Attributes:
        folder: name of a folder of models/, as ComfyUI or this pack registers it.
        name: path below it; an archive is there only while it is unpacked.
        size, sha256: of what is downloaded; null where unknown.
        verified: how far size and sha256 can be relied on; see the module.
        licence: key of ``Manifest.licences``.
        gated: whether the host wants the licence accepted on its page, with an account.
        members: what is taken out of an archive; empty for a plain file.
    """

    id: Identifier
    folder: RelativePath
    name: RelativePath
    source: HubSource | UrlSource
    size: Size | None
    sha256: Sha256 | None
    verified: Literal["agreed", "one-source", "no"]
    licence: str
    gated: bool
    aliases: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()

    @model_validator(mode="after")
    def _honest(self) -> Model:
        if (self.verified == "no") != (self.size is None and self.sha256 is None):
            raise ValueError(f"{self.id}: verified must be 'no' exactly where size and sha256 are null")
        return self

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """What is there after the download."""
        if not self.members:
            return (ModelFile(self.folder, self.name, self.size, self.sha256, self.aliases),)
        return tuple(ModelFile(self.folder, row.name, row.size, row.sha256, row.aliases) for row in self.members)


class Manifest(_Row):
    """All models.

    Attributes:
        default_set: the set for those who do not choose.
        sets: MODEL_TYPE -> ids of what it needs; ``face`` is what the onnx face engine needs.
        licences: by key.
    """

    version: Literal[1]
    default_set: str
    sets: dict[str, tuple[str, ...]]
    licences: dict[Identifier, Licence]
    models: tuple[Model, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        ids = {model.id for model in self.models}
        names = Counter([model.id for model in self.models] + list(self.sets))
        paths = Counter(file.path.lower() for model in self.models for file in model.files)
        twice = [name for name, count in (names + paths).items() if count > 1]
        lost = {row for rows in self.sets.values() for row in rows} - ids
        lost |= {model.licence for model in self.models} - set(self.licences)
        lost |= {self.default_set} - set(self.sets)
        if twice or lost:
            raise ValueError(f"named twice: {sorted(twice)}; named but not there: {sorted(lost)}")
        return self

    def licence_of(self, model: Model) -> Licence:
        """A model's terms."""
        return self.licences[model.licence]

    def needs_consent(self, model: Model) -> bool:
        """Whether somebody must accept the licence: it is gated, or not plainly free for paid work."""
        return model.gated or self.licence_of(model).commercial != "yes"

    def select(self, names: Iterable[str]) -> tuple[Model, ...]:
        """The models of these sets and ids, each once.

        Raises:
            ModelError: ``unknown_model``.
        """
        by_id = {model.id: model for model in self.models}
        wanted: dict[str, Model] = {}
        for name in names:
            if name not in self.sets and name not in by_id:
                near = difflib.get_close_matches(name, [*self.sets, *by_id], n=3)
                hint = f"Did you mean {' or '.join(near)}?" if near else f"Sets are: {', '.join(self.sets)}"
                raise ModelError("unknown_model", name, "there is no model or set of this name", hint)
            for key in self.sets.get(name, (name,)):
                wanted[key] = by_id[key]
        return tuple(wanted.values())


@lru_cache(maxsize=1)
def load_manifest() -> Manifest:
    """The manifest of the pack."""
    return Manifest.model_validate_json(MANIFEST.read_text(encoding="utf-8"))
