"""The manifest is complete and agrees with the rest of the pack."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from flux_face.catalogue.errors import ModelError
from flux_face.catalogue.manifest import MANIFEST, Manifest, load_manifest
from flux_face.catalogue.table import markdown
from flux_face.devtools.pack import ROOT
from flux_face.nodes.face import contracts
from flux_face.nodes.face.contracts import ModelFile as Contract
from flux_face.workflows.profiles import BUILT_IN_DIR, load_profiles

TABLES: tuple[tuple[Contract, ...], ...] = (
    contracts.DETECTORS,
    contracts.RECOGNISERS,
    contracts.ATTRIBUTES,
    contracts.SWAPPERS,
    contracts.CONVERTERS,
    contracts.OCCLUDERS,
    contracts.PARSERS,
    contracts.RESTORERS,
)
FOLDERS = {
    "UnetLoaderGGUF": "diffusion_models",
    "DualCLIPLoader": "text_encoders",
    "CLIPLoader": "text_encoders",
    "VAELoader": "vae",
}
MODEL_TYPES = {"flux1-schnell-gguf", "flux1-dev-gguf", "flux1-schnell", "flux1-dev", "sdxl", "sd3"}


def files_of_profile(graph: Any) -> Iterator[str]:
    """folder/name of every model file that a graph names."""
    for node in graph.values():
        for value in node["inputs"].values():
            if isinstance(value, str) and re.search(r"\.(gguf|safetensors|sft|ckpt|pth|pt|onnx)$", value):
                yield f"{FOLDERS[node['class_type']]}/{value}"


def test_every_model_type_is_there() -> None:
    manifest = load_manifest()
    assert set(manifest.sets) == {*MODEL_TYPES, "face"}
    assert manifest.default_set == "flux1-schnell-gguf"


def test_every_profile_finds_its_files_in_the_set_of_its_name() -> None:
    manifest = load_manifest()
    named = 0
    for name, profile in load_profiles([BUILT_IN_DIR]).items():
        # The starter's own models are made, not downloaded.
        wanted = {file for file in files_of_profile(profile.graph) if "flux-face-starter" not in file}
        if wanted:
            there = {file.path for model in manifest.select([name]) for file in model.files}
            assert wanted <= there, name
            named += len(wanted)
    assert named == 8


def test_the_default_needs_no_consent_and_no_account() -> None:
    manifest = load_manifest()
    assert not any(manifest.needs_consent(model) for model in manifest.select([manifest.default_set]))


def test_every_contract_of_the_face_engine_is_there() -> None:
    manifest = load_manifest()
    files = {file.name.rpartition("/")[2]: (model, file) for model in manifest.models for file in model.files}
    for row in (row for table in TABLES for row in table):
        model, file = files[row.name]
        assert file.aliases == row.aliases, row.name
        licence = manifest.licence_of(model)
        assert licence.commercial == row.commercial, row.name
        assert licence.name == row.licence, row.name


def test_the_face_set_is_what_the_automatic_choice_takes() -> None:
    names = {file.name.rpartition("/")[2] for model in load_manifest().select(["face"]) for file in model.files}
    assert {contracts.DETECTORS[0].name, contracts.RECOGNISERS[0].name, contracts.SWAPPERS[0].name} <= names
    assert {row.name for row in contracts.ATTRIBUTES} <= names


def test_all_addresses_have_tls() -> None:
    assert re.findall(r"http://[^\"]*", MANIFEST.read_text(encoding="utf-8")) == []


def test_the_page_has_the_tables_of_the_manifest() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert markdown(load_manifest()) in page, "put in what `python catalogue list --markdown` prints"


def test_an_unknown_name_is_told_with_what_it_may_mean() -> None:
    with pytest.raises(ModelError, match=r"unknown_model.*Did you mean inswapper-128"):
        load_manifest().select(["inswaper-128"])


def test_a_model_of_two_sets_comes_once() -> None:
    ids = [model.id for model in load_manifest().select(["flux1-dev-gguf", "flux1-schnell-gguf", "flux-vae"])]
    assert len(ids) == len(set(ids)) == 5


def broken(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    document["models"][0] |= changes
    return document


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../evil.bin"},
        {"name": "/etc/evil.bin"},
        {"name": "C:/evil.bin"},
        {"name": "a\\evil.bin"},
        {"name": "a//evil.bin"},
        {"name": ".hidden"},
        {"folder": ".."},
        {"source": {"url": "http://example.org/model.bin"}},
        {"source": {"url": "file:///etc/passwd"}},
        {"sha256": "abc"},
        {"size": 0},
        {"verified": "no"},
        {"licence": "no-such-licence"},
        {"id": "clip-l"},
        {"surprise": 1},
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate(broken(**changes))
