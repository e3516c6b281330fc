"""GGUF loader nodes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
import nodes as comfy_nodes
import torch
from comfy_api.latest import io

from ..errors import UserInputError
from . import folders
from .architectures import architecture
from .container import Container
from .loader import LoadOptions, Residency, load_diffusion_model, load_text_encoders

log = logging.getLogger(__name__)

CATEGORY = "Flux Face/loaders"
_DTYPES = {"default": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _device_input() -> io.Combo.Input:
    return io.Combo.Input(
        "device",
        options=["default", "cpu"],
        default="default",
        optional=True,
        advanced=True,
        tooltip="Where the model runs. Choose cpu to keep a text encoder off the GPU.",
    )


def _dtype_input() -> io.Combo.Input:
    return io.Combo.Input(
        "dequant_dtype",
        options=list(_DTYPES),
        default="default",
        optional=True,
        advanced=True,
        tooltip="What packed weights are expanded to and the model computes in. The default is ComfyUI's choice for "
        "the device; the arithmetic of the expansion itself is always float32, rounded once.",
    )


def _options(device: str, dequant_dtype: str) -> LoadOptions:
    return LoadOptions(torch.device("cpu") if device == "cpu" else None, _DTYPES[dequant_dtype])


def _clip_type(name: str) -> Any:
    return getattr(comfy.sd.CLIPType, name.upper(), comfy.sd.CLIPType.STABLE_DIFFUSION)


def _clip_types(core_loader: str) -> list[str]:
    """The choices that ComfyUI's own loader offers in this version."""
    return list(comfy_nodes.NODE_CLASS_MAPPINGS[core_loader].INPUT_TYPES()["required"]["type"][0])


def _is_there(find: Callable[[], Path]) -> bool | str:
    """Validation of a file's name, which says where to get a missing file; ComfyUI only says that it is not listed."""
    try:
        find()
    except UserInputError as error:
        return str(error)
    return True


def _load_clip(names: dict[str, str], type_name: str, device: str, dequant_dtype: str) -> io.NodeOutput:
    paths = tuple(folders.clip_path(name, field) for field, name in names.items())
    embeddings = folder_paths.get_folder_paths("embeddings")
    return io.NodeOutput(load_text_encoders(paths, _clip_type(type_name), embeddings, _options(device, dequant_dtype)))


def _clip_input(name: str, encoder: str) -> io.Combo.Input:
    return io.Combo.Input(
        name,
        options=folders.clip_files(),
        tooltip=f"{encoder}, as .gguf or .safetensors, from models/text_encoders.",
    )


class UnetLoader(io.ComfyNode):
    NODE_ID = "FluxFaceUnetLoaderGGUF"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=cls.NODE_ID,
            display_name="Load Diffusion Model (GGUF)",
            category=CATEGORY,
            description="Loads Flux and other diffusion models from GGUF files. Weights stay packed in memory; LoRAs "
            "go on with the ordinary LoRA loaders.",
            search_aliases=[
                "unet loader gguf",
                "flux gguf",
                "quantized model",
                "load checkpoint gguf",
                "gguf loader",
                "city96",
                "量化模型",
                "gguf加载器",
                "量子化モデル",
            ],
            inputs=[
                io.Combo.Input(
                    "unet_name",
                    options=folders.unet_files(),
                    tooltip="A .gguf file from models/diffusion_models or models/unet.",
                ),
                _device_input(),
                _dtype_input(),
                io.Combo.Input(
                    "residency",
                    options=[residency.value for residency in Residency],
                    default=Residency.AUTO.value,
                    optional=True,
                    advanced=True,
                    tooltip="packed keeps the file's size in memory and expands a weight each time its layer runs. "
                    "expanded does that once, at load: faster, but two to four times the memory. auto expands if that "
                    "takes at most half of the free memory; the log says what it chose.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The diffusion model, for samplers, guiders and LoRA loaders.")],
        )

    @classmethod
    def validate_inputs(cls, unet_name: str) -> bool | str:
        return _is_there(lambda: folders.unet_path(unet_name))

    @classmethod
    def execute(
        cls, unet_name: str, device: str = "default", dequant_dtype: str = "default", residency: str = "auto"
    ) -> io.NodeOutput:
        path = folders.unet_path(unet_name)
        return io.NodeOutput(load_diffusion_model(path, _options(device, dequant_dtype), Residency(residency)))


class CLIPLoader(io.ComfyNode):
    NODE_ID = "FluxFaceCLIPLoaderGGUF"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=cls.NODE_ID,
            display_name="Load CLIP (GGUF)",
            category=CATEGORY,
            description="Loads one text encoder from a GGUF or safetensors file.",
            search_aliases=[
                "clip loader gguf",
                "t5 gguf",
                "text encoder gguf",
                "city96",
                "文本编码器",
                "テキストエンコーダー",
            ],
            inputs=[
                _clip_input("clip_name", "The text encoder"),
                io.Combo.Input(
                    "type", options=_clip_types("CLIPLoader"), tooltip="The diffusion model it will be used with."
                ),
                _device_input(),
                _dtype_input(),
            ],
            outputs=[io.Clip.Output(tooltip="The text encoder, for CLIP Text Encode and LoRA loaders.")],
        )

    @classmethod
    def validate_inputs(cls, clip_name: str) -> bool | str:
        return _is_there(lambda: folders.clip_path(clip_name, "clip_name"))

    @classmethod
    def execute(
        cls,
        clip_name: str,
        type: str = "stable_diffusion",  # noqa: A002 - the input's name in existing workflows
        device: str = "default",
        dequant_dtype: str = "default",
    ) -> io.NodeOutput:
        return _load_clip({"clip_name": clip_name}, type, device, dequant_dtype)


class DualCLIPLoader(io.ComfyNode):
    NODE_ID = "FluxFaceDualCLIPLoaderGGUF"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=cls.NODE_ID,
            display_name="Load Two CLIPs (GGUF)",
            category=CATEGORY,
            description="Loads two text encoders, each from a GGUF or safetensors file. Flux: CLIP-L and T5-XXL.",
            search_aliases=[
                "dual clip loader gguf",
                "flux clip",
                "t5 gguf",
                "text encoders gguf",
                "city96",
                "双clip加载器",
                "デュアルclip",
            ],
            inputs=[
                _clip_input("clip_name1", "The first text encoder (Flux: CLIP-L)"),
                _clip_input("clip_name2", "The second text encoder (Flux: T5-XXL)"),
                io.Combo.Input(
                    "type", options=_clip_types("DualCLIPLoader"), tooltip="The diffusion model they will be used with."
                ),
                _device_input(),
                _dtype_input(),
            ],
            outputs=[io.Clip.Output(tooltip="Both text encoders as one CLIP.")],
        )

    @classmethod
    def execute(
        cls,
        clip_name1: str,
        clip_name2: str,
        type: str,  # noqa: A002 - the input's name in existing workflows
        device: str = "default",
        dequant_dtype: str = "default",
    ) -> io.NodeOutput:
        return _load_clip({"clip_name1": clip_name1, "clip_name2": clip_name2}, type, device, dequant_dtype)


class TripleCLIPLoader(io.ComfyNode):
    NODE_ID = "FluxFaceTripleCLIPLoaderGGUF"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=cls.NODE_ID,
            display_name="Load Three CLIPs (GGUF)",
            category=CATEGORY,
            description="Loads the three text encoders of Stable Diffusion 3, each from a GGUF or safetensors file.",
            search_aliases=[
                "triple clip loader gguf",
                "sd3 clip",
                "t5 gguf",
                "city96",
                "三重clip加载器",
                "トリプルclip",
            ],
            inputs=[
                _clip_input("clip_name1", "One of CLIP-L, CLIP-G and T5-XXL"),
                _clip_input("clip_name2", "One of CLIP-L, CLIP-G and T5-XXL"),
                _clip_input("clip_name3", "One of CLIP-L, CLIP-G and T5-XXL"),
                _device_input(),
                _dtype_input(),
            ],
            outputs=[io.Clip.Output(tooltip="The three text encoders as one CLIP.")],
        )

    @classmethod
    def execute(
        cls,
        clip_name1: str,
        clip_name2: str,
        clip_name3: str,
        device: str = "default",
        dequant_dtype: str = "default",
    ) -> io.NodeOutput:
        names = {"clip_name1": clip_name1, "clip_name2": clip_name2, "clip_name3": clip_name3}
        return _load_clip(names, "sd3", device, dequant_dtype)


class GGUFInfo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FluxFaceGGUFInfo",
            display_name="GGUF File Info",
            category=CATEGORY,
            description="Says what a GGUF file holds, from its header alone: nothing is loaded.",
            search_aliases=["inspect gguf", "gguf metadata", "quantization type", "gguf信息", "gguf情報"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "file_name",
                    options=sorted({*folders.unet_files(), *(f for f in folders.clip_files() if f.endswith(".gguf"))}),
                    tooltip="A .gguf file from the folders of diffusion models or text encoders.",
                )
            ],
            outputs=[
                io.String.Output("architecture", tooltip="From the metadata, else recognised by the tensor names."),
                io.Int.Output("parameters", tooltip="Number of weights."),
                io.Int.Output("bytes", tooltip="Size of the file in bytes."),
                io.String.Output("report", tooltip="All of this and the count of tensors of each type, as text."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file_name: str) -> bool | str:
        return _is_there(lambda: folders.gguf_path(file_name, "file_name"))

    @classmethod
    def execute(cls, file_name: str) -> io.NodeOutput:
        container = Container(folders.gguf_path(file_name, "file_name"))
        kind = architecture(container)
        parameters = sum(tensor.parameters for tensor in container.tensors)
        sizes: Counter[str] = Counter()
        for tensor in container.tensors:
            sizes[tensor.tensor_type.name] += tensor.bytes
        counts = Counter(tensor.tensor_type.name for tensor in container.tensors)
        lines = [
            f"{file_name}: {kind}, GGUF version {container.version}",
            f"{parameters:,} parameters in {len(container.tensors)} tensors, {container.file_bytes:,} bytes",
            f"{8 * sum(sizes.values()) / max(parameters, 1):.2f} bits per parameter",
            *(f"{name}: {counts[name]} tensors, {size:,} bytes" for name, size in sizes.most_common()),
        ]
        report = "\n".join(lines)
        return io.NodeOutput(kind, parameters, container.file_bytes, report, ui={"text": [report]})


class CommunityUnetLoader(UnetLoader):
    NODE_ID = "UnetLoaderGGUF"


class CommunityCLIPLoader(CLIPLoader):
    NODE_ID = "CLIPLoaderGGUF"


class CommunityDualCLIPLoader(DualCLIPLoader):
    NODE_ID = "DualCLIPLoaderGGUF"


class CommunityTripleCLIPLoader(TripleCLIPLoader):
    NODE_ID = "TripleCLIPLoaderGGUF"


NODES: tuple[type[io.ComfyNode], ...] = (UnetLoader, CLIPLoader, DualCLIPLoader, TripleCLIPLoader, GGUFInfo)

# The same nodes under the class types of the community's pack, for workflows that were made with it.
COMMUNITY_NODES: dict[str, type[io.ComfyNode]] = {
    "UnetLoaderGGUF": CommunityUnetLoader,
    "CLIPLoaderGGUF": CommunityCLIPLoader,
    "DualCLIPLoaderGGUF": CommunityDualCLIPLoader,
    "TripleCLIPLoaderGGUF": CommunityTripleCLIPLoader,
}
