"""The loader nodes in a running ComfyUI, and beside another pack."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import nodes as comfy_nodes
import pytest
from gguf import GGMLQuantizationType as GType

from flux_face.nodes.gguf import folders
from flux_face.nodes.gguf.nodes import COMMUNITY_NODES, NODES
from flux_face.tests.comfy_server import Comfy, ComfyError
from flux_face.tests.gguf import tiny_flux

# What workflows made with the community's pack send.
COMMUNITY_INPUTS = {
    "UnetLoaderGGUF": ["unet_name"],
    "CLIPLoaderGGUF": ["clip_name", "type"],
    "DualCLIPLoaderGGUF": ["clip_name1", "clip_name2", "type"],
    "TripleCLIPLoaderGGUF": ["clip_name1", "clip_name2", "clip_name3"],
}


@pytest.mark.parametrize("node_id", COMMUNITY_INPUTS)
def test_community_workflows_open_unchanged(node_id: str) -> None:
    schema = COMMUNITY_NODES[node_id].GET_SCHEMA()
    assert schema.node_id == node_id
    assert [item.id for item in schema.inputs if not item.optional] == COMMUNITY_INPUTS[node_id]


def test_every_input_and_output_explains_itself() -> None:
    for node in [*NODES, *COMMUNITY_NODES.values()]:
        schema = node.GET_SCHEMA()
        assert all(item.tooltip for item in [*schema.inputs, *schema.outputs]), schema.node_id
        assert schema.search_aliases, schema.node_id


def test_folders_are_merged_with_those_of_other_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, ours = tmp_path / "other", tmp_path / "ours"
    for folder, name in ((other, "a.gguf"), (ours, "b.gguf"), (ours, "c.safetensors")):
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "unet_gguf", ([str(other)], {".gguf"}))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "clip_gguf", ([str(other)], {".gguf"}))
    for name in ("diffusion_models", "text_encoders"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(ours)], {".safetensors"}))
    assert folders.unet_files() == ["a.gguf", "b.gguf"]
    assert folders.clip_files() == ["a.gguf", "b.gguf", "c.safetensors"]
    assert folders.unet_path("a.gguf") == other / "a.gguf"
    assert folders.clip_path("c.safetensors", "clip_name") == ours / "c.safetensors"


def test_a_missing_file_is_refused_with_place_size_and_licence(comfy: Comfy) -> None:
    """In the web page too, where ComfyUI would only say that the value is not in its list."""
    name = "flux1-schnell-Q4_K_S.gguf"
    with pytest.raises(
        ComfyError,
        match=rf"{name}.*https://huggingface\.co/city96/\S+ \(6\.8 GB, licence: Apache-2\.0\).*diffusion_models",
    ):
        comfy.run(
            {
                "1": {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": name}},
                "2": {"class_type": "ModelSave", "inputs": {"model": ["1", 0], "filename_prefix": "gguf/lost"}},
            }
        )


async def test_other_pack_keeps_its_class_types(monkeypatch: pytest.MonkeyPatch) -> None:
    from flux_face.extension import FluxFaceExtension

    class StandIn:
        """Another pack's loader, registered first."""

    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, "UnetLoaderGGUF", StandIn)
    names = {node.GET_SCHEMA().node_id for node in await FluxFaceExtension().get_node_list()}
    assert "UnetLoaderGGUF" not in names
    assert {"FluxFaceUnetLoaderGGUF", "DualCLIPLoaderGGUF"} <= names


def test_load_and_save_in_comfyui(comfy: Comfy) -> None:
    folder = comfy.base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    tiny_flux.write(folder / "tiny-test.gguf", lambda _: GType.Q8_0)
    entry = comfy.run(
        {
            "1": {"class_type": "FluxFaceGGUFInfo", "inputs": {"file_name": "tiny-test.gguf"}},
            "2": {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": "tiny-test.gguf"}},
            "3": {"class_type": "ModelSave", "inputs": {"model": ["2", 0], "filename_prefix": "gguf/saved"}},
            "4": {
                "class_type": "FluxFaceUnetLoaderGGUF",
                "inputs": {"unet_name": "tiny-test.gguf", "residency": "packed"},
            },
            "5": {"class_type": "ModelSave", "inputs": {"model": ["4", 0], "filename_prefix": "gguf/packed"}},
        }
    )
    report = entry["outputs"]["1"]["text"][0]
    assert "flux" in report
    assert "Q8_0: 26 tensors" in report
    sizes = {path.name.split("_")[0]: path.stat().st_size for path in (comfy.base / "output" / "gguf").iterdir()}
    assert sizes.keys() == {"saved", "packed"}
    assert all(size > 20_000_000 for size in sizes.values())  # dense float32


def test_damaged_file_is_named_and_comfyui_goes_on(comfy: Comfy) -> None:
    folder = comfy.base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    tiny_flux.write(folder / "tiny-cut.gguf", lambda _: GType.Q8_0)
    whole = (folder / "tiny-cut.gguf").read_bytes()
    (folder / "tiny-cut.gguf").write_bytes(whole[:100_000])

    def load() -> None:
        comfy.run(
            {
                "1": {
                    "class_type": "FluxFaceUnetLoaderGGUF",
                    "inputs": {"unet_name": "tiny-cut.gguf", "residency": "packed"},
                },
                "2": {"class_type": "ModelSave", "inputs": {"model": ["1", 0], "filename_prefix": "gguf/cut"}},
            }
        )

    with pytest.raises(ComfyError, match=r"tiny-cut\.gguf.*truncated"):
        load()
    (folder / "tiny-cut.gguf").write_bytes(whole)
    load()
