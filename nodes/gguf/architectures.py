"""What a GGUF file holds: a diffusion model or a text encoder, and under which names ComfyUI knows its tensors."""

from __future__ import annotations

from collections.abc import Iterable

from .container import Container

# Architectures that llama.cpp's converters write for text models. Anything else is taken for a diffusion model, which
# ComfyUI identifies by its tensors.
TEXT_ARCHITECTURES = frozenset(
    {
        "t5", "t5encoder", "llama", "mistral", "qwen2", "qwen2vl", "qwen3", "qwen3vl", "gemma", "gemma2", "gemma3",
        "gemma4", "phi3", "bert", "clip",
    }
)  # fmt: skip
T5_ARCHITECTURES = frozenset({"t5", "t5encoder"})

# Values that converters write when they do not name one.
_UNNAMED = frozenset({"", "pig", "cow"})

# One tensor that only this architecture has.
_SIGNATURES: dict[str, str] = {
    "double_blocks.0.img_attn.proj.weight": "flux",
    "joint_blocks.0.x_block.attn.qkv.weight": "sd3",
    "joint_transformer_blocks.3.ff_context.out_projection.weight": "aura",
    "caption_projection.0.linear.weight": "hidream",
    "double_blocks.0.img_attn_proj.weight": "hyvid",
    "text_embedding.2.weight": "wan",
    "adaln_single.emb.timestep_embedder.linear_2.weight": "ltxv",
    "cap_embedder.1.weight": "lumina2",
    "transformer_blocks.0.attn.add_q_proj.weight": "qwen_image",
    "label_emb.0.0.weight": "sdxl",
    "input_blocks.3.0.op.weight": "sd1",
    "enc.blk.0.attn_q.weight": "t5encoder",
    "token_embd.weight": "llama",
}

_PREFIXES = ("model.diffusion_model.", "diffusion_model.")

# llama.cpp's names for the parts of a T5 encoder, in order: later rules see the result of earlier ones.
_T5_NAMES = (
    ("enc.blk.", "encoder.block."),
    ("enc.", "encoder."),
    ("token_embd", "shared"),
    ("output_norm", "final_layer_norm"),
    ("attn_q", "layer.0.SelfAttention.q"),
    ("attn_k", "layer.0.SelfAttention.k"),
    ("attn_v", "layer.0.SelfAttention.v"),
    ("attn_o", "layer.0.SelfAttention.o"),
    ("attn_norm", "layer.0.layer_norm"),
    ("attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"),
    ("ffn_up", "layer.1.DenseReluDense.wi_1"),
    ("ffn_down", "layer.1.DenseReluDense.wo"),
    ("ffn_gate", "layer.1.DenseReluDense.wi_0"),
    ("ffn_norm", "layer.1.layer_norm"),
)


def architecture(container: Container) -> str:
    """The architecture's name from the metadata, else from the tensor names; ``unknown`` if neither tells."""
    named = container.metadata.get("general.architecture")
    if isinstance(named, str) and named not in _UNNAMED:
        return named
    names = {strip_prefix(tensor.name, prefix_of(t.name for t in container.tensors)) for tensor in container.tensors}
    return next((found for name, found in _SIGNATURES.items() if name in names), "unknown")


def prefix_of(names: Iterable[str]) -> str:
    """The prefix under which a checkpoint keeps its diffusion model, or an empty string."""
    known = list(names)
    return next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in known)), "")


def strip_prefix(name: str, prefix: str) -> str:
    """``name`` without ``prefix``, if it has it."""
    return name[len(prefix) :] if prefix and name.startswith(prefix) else name


def t5_name(name: str) -> str:
    """ComfyUI's name of a T5 encoder's tensor, from llama.cpp's."""
    for theirs, ours in _T5_NAMES:
        name = name.replace(theirs, ours)
    return name
