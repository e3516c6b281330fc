"""A CLIP-L text encoder whose weights are compiled from the vocabulary instead of trained.

The file has the layout of openai/clip-vit-large-patch14, so ComfyUI's CLIPLoader takes it, but only two of its
twelve layers do anything; in the others the residual branches are zero.

Layer 0 attention: two heads copy the modifier word one and two places back into channels of its own.
Layer 0 MLP: one neuron per phrase fires on (word) or (modifier, word) and writes the attribute's direction.
Layer 1 attention: the end token sums the directions over the whole prompt. All other tokens look at the start
token, which carries nothing.

Layer norms would mix the channels, so every token carries a large constant pair (+BALLAST, -BALLAST) that fixes
the variance at 1, and a balance channel that keeps the mean at 0: a layer norm is then the identity to within
half a percent. `conditioning` states the resulting output in closed form; a test holds ComfyUI's encoder to it.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from .conditioning import GAIN, LENGTH, SUBSPACE, WIDTH, directions
from .vocabulary import ATTRIBUTES, MODIFIERS, PHRASES

FILE_NAME = "flux-face-starter-clip_l.safetensors"

VOCABULARY_SIZE = 49408
START, END = 49406, 49407
LAYERS, HEADS, MLP_WIDTH = 12, 12, 3072
HEAD_WIDTH = WIDTH // HEADS

# Ids of the words in CLIP's byte-pair vocabulary, where each of them is a single token.
TOKENS: dict[str, int] = {
    "bald": 14875, "shaved": 25571, "afro": 21795, "curls": 24340, "blonde": 10711, "blond": 32426,
    "redhead": 36267, "ginger": 9718, "brunette": 35528, "forest": 4167, "garden": 2756, "park": 1452,
    "sky": 2390, "studio": 3155, "night": 930, "sunset": 3424, "sunrise": 5610, "dusk": 19708,
    "woman": 2308, "female": 3970, "lady": 2909, "girl": 1611, "women": 1507, "man": 786, "male": 2801,
    "guy": 2149, "boy": 1876, "gentleman": 13293, "men": 1656, "young": 1888, "teenager": 19338,
    "youth": 3281, "old": 896, "elderly": 15455, "senior": 3415, "aged": 3889, "grandmother": 17469,
    "grandfather": 15346, "smiling": 9200, "smile": 3490, "happy": 900, "laughing": 8301,
    "cheerful": 28882, "serious": 4770, "stern": 2945, "neutral": 17011, "sad": 3719, "beard": 9052,
    "bearded": 28459, "warm": 3616, "candle": 12674, "moonlight": 20001, "cold": 3153, "neon": 13919,
    "alien": 9639, "background": 5994, "backdrop": 20802, "wall": 2569, "shirt": 2523, "jacket": 6164,
    "dress": 2595, "sweater": 11455, "suit": 3940, "hoodie": 13444, "coat": 7356, "top": 1253,
    "eyes": 3095, "eyed": 15512, "hair": 2225, "haired": 27202, "skin": 3575, "complexion": 47732,
    "skinned": 42199, "hour": 2232, "person": 2533, "blue": 1746, "green": 1901, "grey": 5046,
    "gray": 7048, "silver": 3467, "red": 736, "yellow": 4481, "golden": 3878, "purple": 5496,
    "violet": 16118, "white": 1579, "black": 1449, "dark": 3144, "light": 1395, "brown": 2866,
    "pink": 3360, "chestnut": 21834, "short": 3005, "medium": 8675, "long": 1538, "curly": 20795,
    "wavy": 31941, "pale": 12518, "fair": 2849, "porcelain": 20451, "beige": 26677, "tan": 5039,
    "olive": 9898, "deep": 3383, "ebony": 30651,
}  # fmt: skip

# Channels of the residual stream.
_BALLAST_UP, _BALLAST_DOWN, _START, _END, _BALANCE = range(5)
_POSITION = 8
_WORD = 72
_BACK = {1: 192, 2: 224}

_BALLAST = math.sqrt(WIDTH / 2)
_FLAG = 2.0
_FREQUENCIES = HEAD_WIDTH // 2
_POSITION_AMPLITUDE = 0.1
# Attention scores: how sharply a position picks its predecessor, and the log-weight of the start token, for
# ordinary tokens (all attention) and for the end token (large against the prompt's length: attention then
# adds up instead of averaging).
_SHARPNESS = 750.0
_SINK, _SUM_SINK = 20.0, 8.0
# Pre-activation of a neuron: +_DRIVE when its phrase is there, -_DRIVE or less otherwise.
_DRIVE = 12.0

_WORDS = {word: _WORD + row for row, word in enumerate(TOKENS)}
_MODIFIERS = {word: row for row, word in enumerate(MODIFIERS)}


def _turn(position: float) -> Tensor:
    """Cosines and sines of all multiples of the position's angle on a circle of LENGTH, [64]."""
    angles = 2 * math.pi / LENGTH * torch.arange(1, _FREQUENCIES + 1, dtype=torch.float64) * position
    return torch.stack([angles.cos(), angles.sin()], dim=1).flatten()


def _signs() -> Tensor:
    """A sign per cosine-sine pair, [64], irregular (Thue-Morse) so that no position's code has a large sum."""
    return torch.tensor([(-1.0) ** k.bit_count() for k in range(_FREQUENCIES) for _ in range(2)])


def _rotation(back: int) -> Tensor:
    """The matrix that takes the code of position p to that of p - back, [64,64]."""
    turn = _turn(back).reshape(-1, 2)
    matrix = torch.zeros(HEAD_WIDTH, HEAD_WIDTH, dtype=torch.float64)
    for k, (cos, sin) in enumerate(turn):
        pair = slice(2 * k, 2 * k + 2)
        matrix[pair, pair] = torch.tensor([[cos, sin], [-sin, cos]])
    return matrix


def _balanced(rows: Tensor) -> Tensor:
    """Vectors of the residual stream, [...,768], with the balance channel set so that each has mean zero."""
    rows = rows.clone()
    rows[..., _BALANCE] = 0.0
    rows[..., _BALANCE] = -rows.sum(-1)
    return rows


def _token_embeddings() -> Tensor:
    table = torch.zeros(VOCABULARY_SIZE, WIDTH)
    table[START, _START] = _FLAG
    table[END, _END] = _FLAG
    for word, token in TOKENS.items():
        table[token, _WORDS[word]] = 1.0
    return _balanced(table)


def _position_embeddings() -> Tensor:
    table = torch.zeros(LENGTH, WIDTH)
    for position in range(LENGTH):
        table[position, _POSITION : _POSITION + HEAD_WIDTH] = (_turn(position) * _signs() * _POSITION_AMPLITUDE).float()
    table = _balanced(table)
    table[:, _BALLAST_UP] = _BALLAST
    table[:, _BALLAST_DOWN] = -_BALLAST
    return table


def _look_back(layer: dict[str, Tensor]) -> None:
    """Layer 0 attention: head 0 fetches the modifier one place back, head 1 two places back."""
    root = math.sqrt(_SHARPNESS)
    for head, (back, target) in enumerate(_BACK.items()):
        channels = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
        code = slice(_POSITION, _POSITION + HEAD_WIDTH)
        layer["self_attn.q_proj.weight"][channels, code] = (root * _rotation(back)).float()
        layer["self_attn.k_proj.weight"][channels, code] = root * torch.eye(HEAD_WIDTH)
        for word, row in _MODIFIERS.items():
            layer["self_attn.v_proj.weight"][head * HEAD_WIDTH + row, _WORDS[word]] = 1.0
            layer["self_attn.out_proj.weight"][target + row, head * HEAD_WIDTH + row] = 1.0
            layer["self_attn.out_proj.weight"][_BALANCE, head * HEAD_WIDTH + row] = -1.0


def _recognise(layer: dict[str, Tensor]) -> None:
    """Layer 0 MLP: a neuron per phrase."""
    written = _balanced(directions()) / _DRIVE
    slope = 2 * _DRIVE
    for neuron, phrase in enumerate(PHRASES):
        layer["mlp.fc1.weight"][neuron, _WORDS[phrase.word]] = slope
        threshold = 0.5
        if phrase.modifier is not None:
            threshold = 1.5
            for back in range(1, phrase.reach + 1):
                layer["mlp.fc1.weight"][neuron, _BACK[back] + _MODIFIERS[phrase.modifier]] = slope
        layer["mlp.fc1.bias"][neuron] = -slope * threshold
        layer["mlp.fc2.weight"][:, neuron] = written[ATTRIBUTES.index(phrase.attribute)]


def _add_up(layer: dict[str, Tensor]) -> None:
    """Layer 1 attention: the end token sums what the prompt's tokens carry, all others see the start token only."""
    scale = math.sqrt(HEAD_WIDTH)
    layer["self_attn.q_proj.bias"][0] = 1.0
    layer["self_attn.q_proj.weight"][1, _END] = 1.0 / _FLAG
    layer["self_attn.k_proj.weight"][0, _START] = _SINK * scale / _FLAG
    layer["self_attn.k_proj.weight"][1, _START] = (_SUM_SINK - _SINK) * scale / _FLAG
    gain = math.exp(_SUM_SINK / 2)
    span = SUBSPACE.stop - SUBSPACE.start
    layer["self_attn.v_proj.weight"][:span, SUBSPACE] = gain * torch.eye(span)
    layer["self_attn.out_proj.weight"][SUBSPACE, :span] = gain * torch.eye(span)
    layer["self_attn.out_proj.weight"][_BALANCE, :span] = -gain


def _empty_layer() -> dict[str, Tensor]:
    layer: dict[str, Tensor] = {}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        layer[f"self_attn.{name}.weight"] = torch.zeros(WIDTH, WIDTH)
        layer[f"self_attn.{name}.bias"] = torch.zeros(WIDTH)
    layer["mlp.fc1.weight"], layer["mlp.fc1.bias"] = torch.zeros(MLP_WIDTH, WIDTH), torch.zeros(MLP_WIDTH)
    layer["mlp.fc2.weight"], layer["mlp.fc2.bias"] = torch.zeros(WIDTH, MLP_WIDTH), torch.zeros(WIDTH)
    for name in ("layer_norm1", "layer_norm2"):
        layer[f"{name}.weight"], layer[f"{name}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    return layer


def state_dict() -> dict[str, Tensor]:
    """The whole encoder, float16, under the keys of Hugging Face's CLIPTextModel."""
    layers = [_empty_layer() for _ in range(LAYERS)]
    _look_back(layers[0])
    _recognise(layers[0])
    _add_up(layers[1])
    last_norm = torch.zeros(WIDTH)
    last_norm[SUBSPACE] = GAIN
    tensors = {
        "text_model.embeddings.token_embedding.weight": _token_embeddings(),
        "text_model.embeddings.position_embedding.weight": _position_embeddings(),
        "text_model.final_layer_norm.weight": last_norm,
        "text_model.final_layer_norm.bias": torch.zeros(WIDTH),
        "text_projection.weight": torch.eye(WIDTH),
    }
    for number, layer in enumerate(layers):
        tensors |= {f"text_model.encoder.layers.{number}.{name}": tensor for name, tensor in layer.items()}
    return {name: tensor.half() for name, tensor in tensors.items()}


def write(path: Path) -> None:
    """Write the encoder, about 246 MB, atomically. The same bytes every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    # `save_file` would make the file readable by its owner only.
    partial.write_bytes(save(state_dict(), metadata={"format": "pt"}))
    partial.replace(path)
