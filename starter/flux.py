"""A trainable twin of ComfyUI's Flux.

ComfyUI's own model works in place and cannot be trained. This one has the same layers under the same state-dict
keys (those of the released Flux files) and computes the same function; a test compares them. No guidance input,
as in Flux schnell: ComfyUI then samples plain rectified flow, time t = sigma in 0..1, shift 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AXES = (16, 56, 56)
THETA = 10000.0


@dataclass(frozen=True)
class FluxConfig:
    """Sizes. Heads are 128 wide, as everywhere in Flux, so `hidden` is a multiple of 128."""

    hidden: int = 256
    depth: int = 1
    depth_single: int = 4
    context: int = 768
    pooled: int = 768
    latent_channels: int = 16

    @property
    def heads(self) -> int:
        return self.hidden // sum(AXES)


def timestep_embedding(t: Tensor) -> Tensor:
    """[B] in 0..1 to [B,256], cosines first; frequencies of 1000 t as in Flux."""
    half = 128
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, device=t.device) / half)
    angles = 1000.0 * t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def image_positions(rows: int, columns: int, pitch: float = 1.0) -> Tensor:
    """Position ids of the image tokens, [rows*columns,3]: unused, row, column.

    pitch: tokens of the final picture per token; 2 for a picture of half the resolution over the same range.
    """
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1] = ((torch.arange(rows) + 0.5) * pitch - 0.5)[:, None]
    ids[..., 2] = ((torch.arange(columns) + 0.5) * pitch - 0.5)[None, :]
    return ids.reshape(-1, 3)


def rotary_table(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [L,64], of the rotary embedding for position ids [L,3]."""
    angles = []
    for axis, dim in enumerate(AXES):
        omega = THETA ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles.append(ids[:, axis].double()[:, None] * omega)
    angle = torch.cat(angles, dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (channel i, channel 64 + i) of x [B,heads,L,128] by the table's angles."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.scale.shape, self.scale)


class QKNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_norm = RMSNorm(dim)
        self.key_norm = RMSNorm(dim)


class MLPEmbedder(nn.Module):
    def __init__(self, n_in: int, hidden: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(n_in, hidden)
        self.out_layer = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_layer(F.silu(self.in_layer(x)))
        return out


class Modulation(nn.Module):
    """Shift, scale and gate, once per branch, from the conditioning vector."""

    def __init__(self, dim: int, branches: int) -> None:
        super().__init__()
        self.parts = 3 * branches
        self.lin = nn.Linear(dim, self.parts * dim)

    def forward(self, vec: Tensor) -> tuple[Tensor, ...]:
        return torch.chunk(self.lin(F.silu(vec))[:, None, :], self.parts, dim=-1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters, then the conditioning's scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.norm = QKNorm(dim // heads)
        self.proj = nn.Linear(dim, dim)


def split_heads(qkv: Tensor, heads: int, norm: QKNorm) -> tuple[Tensor, Tensor, Tensor]:
    """[B,L,3*dim] to normalised queries, keys and values, [B,heads,L,128] each."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return norm.query_norm(q), norm.key_norm(k), v


def attend(q: Tensor, k: Tensor, v: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
    """Attention over all tokens, [B,L,dim]. bias: added to the scores, [B,1,1,L]."""
    q, k = rotate(q, *rotary).to(v.dtype), rotate(k, *rotary).to(v.dtype)
    mask = None if bias is None else bias.to(v.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _mlp(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))


class DoubleStreamBlock(nn.Module):
    """Separate weights for image and text, joint attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.img_mod, self.txt_mod = Modulation(dim, 2), Modulation(dim, 2)
        self.img_attn, self.txt_attn = SelfAttention(dim, heads), SelfAttention(dim, heads)
        self.img_mlp, self.txt_mlp = _mlp(dim), _mlp(dim)

    def forward(
        self, img: Tensor, txt: Tensor, vec: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        img_mod, txt_mod = self.img_mod(vec), self.txt_mod(vec)
        img_qkv = split_heads(self.img_attn.qkv(modulated(img, *img_mod[:2])), self.heads, self.img_attn.norm)
        txt_qkv = split_heads(self.txt_attn.qkv(modulated(txt, *txt_mod[:2])), self.heads, self.txt_attn.norm)
        q, k, v = (torch.cat([t, i], dim=2) for t, i in zip(txt_qkv, img_qkv, strict=True))
        txt_out, img_out = attend(q, k, v, rotary, bias).split([txt.shape[1], img.shape[1]], dim=1)
        img = img + img_mod[2] * self.img_attn.proj(img_out)
        img = img + img_mod[5] * self.img_mlp(modulated(img, *img_mod[3:5]))
        txt = txt + txt_mod[2] * self.txt_attn.proj(txt_out)
        txt = txt + txt_mod[5] * self.txt_mlp(modulated(txt, *txt_mod[3:5]))
        return img, txt


class SingleStreamBlock(nn.Module):
    """One set of weights for all tokens, attention and MLP side by side."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.linear1 = nn.Linear(dim, 7 * dim)
        self.linear2 = nn.Linear(5 * dim, dim)
        self.norm = QKNorm(dim // heads)
        self.modulation = Modulation(dim, 1)

    def forward(self, x: Tensor, vec: Tensor, rotary: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
        shift, scale, gate = self.modulation(vec)
        qkv, hidden = self.linear1(modulated(x, shift, scale)).split([3 * self.dim, 4 * self.dim], dim=-1)
        out = attend(*split_heads(qkv, self.heads, self.norm), rotary, bias)
        out = self.linear2(torch.cat([out, F.gelu(hidden, approximate="tanh")], dim=-1))
        joined: Tensor = x + gate * out
        return joined


class LastLayer(nn.Module):
    def __init__(self, dim: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, n_out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, vec: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vec)[:, None, :].chunk(2, dim=-1)
        out: Tensor = self.linear(modulated(x, shift, scale))
        return out


class Flux(nn.Module):
    """Predicts the flow (noise - data) of latents [B,16,H,W], H and W even."""

    def __init__(self, config: FluxConfig = FluxConfig()) -> None:
        super().__init__()
        dim, patch = config.hidden, 4 * config.latent_channels
        self.config = config
        self.img_in = nn.Linear(patch, dim)
        self.txt_in = nn.Linear(config.context, dim)
        self.time_in = MLPEmbedder(256, dim)
        self.vector_in = MLPEmbedder(config.pooled, dim)
        self.double_blocks = nn.ModuleList(DoubleStreamBlock(dim, config.heads) for _ in range(config.depth))
        self.single_blocks = nn.ModuleList(SingleStreamBlock(dim, config.heads) for _ in range(config.depth_single))
        self.final_layer = LastLayer(dim, patch)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        pooled: Tensor,
        log_count: Tensor | None = None,
        pitch: float = 1.0,
    ) -> Tensor:
        """x: [B,16,H,W]. t: [B], 0 data to 1 noise. context: [B,L,768]. pooled: [B,768].

        log_count: [B,L]. Text tokens have no positions, so n equal tokens act as one whose attention score is
        raised by log n; training passes each distinct token once. -inf leaves a token out.
        pitch: see `image_positions`.
        """
        rows, columns = x.shape[2] // 2, x.shape[3] // 2
        img = self.img_in(to_tokens(x))
        txt = self.txt_in(context)
        vec = self.time_in(timestep_embedding(t)) + self.vector_in(pooled)
        ids = torch.cat([torch.zeros(txt.shape[1], 3), image_positions(rows, columns, pitch)])
        cos, sin = rotary_table(ids)
        rotary = cos.to(x.device), sin.to(x.device)
        bias = None if log_count is None else F.pad(log_count, (0, img.shape[1]))[:, None, None, :]
        for block in self.double_blocks:
            img, txt = block(img, txt, vec, rotary, bias)
        both = torch.cat([txt, img], dim=1)
        for block in self.single_blocks:
            both = block(both, vec, rotary, bias)
        return to_latents(self.final_layer(both[:, txt.shape[1] :], vec), rows, columns)


def to_tokens(x: Tensor) -> Tensor:
    """[B,C,2r,2c] to [B,r*c,4C], channels outermost as in Flux."""
    batch, channels, height, width = x.shape
    patches = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, height // 2 * (width // 2), 4 * channels)


def to_latents(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `to_tokens`."""
    batch, _, width = tokens.shape
    patches = tokens.reshape(batch, rows, columns, width // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(batch, width // 4, 2 * rows, 2 * columns)


_ZERO = ("_mod.lin", "modulation.lin", "adaLN_modulation", "final_layer.linear")


def initialise(model: Flux, seed: int) -> None:
    """Xavier-uniform weights; modulations and the last layer start at zero, so every block starts as identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.scale"):
            nn.init.ones_(parameter)
        elif parameter.ndim == 1 or any(part in name for part in _ZERO):
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_uniform_(parameter, generator=generator)


@torch.no_grad()
def sample_euler(
    model: nn.Module, noise: Tensor, context: Tensor, pooled: Tensor, steps: int, log_count: Tensor | None = None
) -> Tensor:
    """Plain Euler from noise to data at evenly spaced times: ComfyUI's `euler` with `simple` for this model."""
    x = noise
    times = torch.linspace(1.0, 0.0, steps + 1)
    for now, then in pairwise(times):
        flow = model(x, now.expand(len(x)), context, pooled, log_count)
        x = x + (then - now) * flow.float()
    return x


def to_released(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The twin's state dict in the channel order of released Flux files.

    There the rotary embedding turns neighbouring channels; the twin pairs channel i with 64 + i, which computes
    the same attention scores from contiguous memory. Only queries, keys and their norms are concerned.
    """
    return _reordered(state, lambda head: head.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1))


def from_released(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_released`."""
    return _reordered(state, lambda head: head.unflatten(0, (-1, 2)).transpose(0, 1).flatten(0, 1))


def _reordered(state: dict[str, Tensor], reorder: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """`reorder` the 128 channels of every query and key head."""
    width = sum(AXES)
    out = {}
    for name, tensor in state.items():
        if name.endswith("_norm.scale"):
            tensor = reorder(tensor)
        elif ".qkv." in name or ".linear1." in name:
            dim = state["img_in.weight"].shape[0]
            heads = [reorder(head) for head in tensor[: 2 * dim].split(width)]
            tensor = torch.cat([*heads, tensor[2 * dim :]])
        out[name] = tensor.contiguous()
    return out
