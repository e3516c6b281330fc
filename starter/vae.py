"""A TAESD-architecture VAE whose encoder is computed, not trained.

The encoder projects 8x8 RGB patches on their principal components. That is a linear map, and a TAESD encoder can
hold it exactly: the stride-2 convolutions move pixels into channels (space to depth), the residual branches are
zero, and since every block ends in a ReLU a component travels as two channels, its positive and negative part.
The decoder is a trained TAESD decoder.

Latents are those the diffusion model sees. ComfyUI's Flux latent format maps a VAE's latents z to
(z - 0.1159) * 0.3611; with `vae_scale` and `vae_shift` set to these numbers, as in the released TAEF1, ComfyUI's
VAE undoes exactly that, and encoder and decoder here work on the diffusion model's own scale.

State-dict keys and layers follow TAESD (Ollin Boer Bohan, MIT licence) as ComfyUI loads it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_CHANNELS = 16
SCALE, SHIFT = 0.3611, 0.1159

# The variance of component k is (variance_k / variance_0) ** _ORDERING times that of the first, which gets
# _FIRST_STD: flat enough for the diffusion model, and within the reach of the decoder's clamp at 3.
_ORDERING = 0.5
_FIRST_STD = 1.1


def _conv(n_in: int, n_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=bias)


class Clamp(nn.Module):
    """Soft clamp to -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(channels, channels), nn.ReLU(), _conv(channels, channels), nn.ReLU(), _conv(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


def _blocks(count: int) -> list[nn.Module]:
    return [Block(64) for _ in range(count)]


class Encoder(nn.Sequential):
    """RGB 0..1 [B,3,H,W] to latents [B,16,H/8,W/8]."""

    def __init__(self) -> None:
        down: list[nn.Module] = []
        for _ in range(3):
            down += [_conv(64, 64, stride=2, bias=False), *_blocks(3)]
        super().__init__(_conv(3, 64), *_blocks(1), *down, _conv(64, LATENT_CHANNELS))


class Decoder(nn.Sequential):
    """Latents [B,16,h,w] to RGB 0..1 [B,3,8h,8w], not clipped."""

    def __init__(self) -> None:
        up: list[nn.Module] = []
        for _ in range(3):
            up += [*_blocks(3), nn.Upsample(scale_factor=2), _conv(64, 64, bias=False)]
        super().__init__(Clamp(), _conv(LATENT_CHANNELS, 64), nn.ReLU(), *up, *_blocks(1), _conv(64, 3))


class PatchBasis:
    """Principal components of 8x8 RGB patches, patch values ordered (row, column, channel).

    mean: [192]. components: [16,192], orthonormal rows, by falling variance. scale: [16], latent = scale * coefficient.
    """

    def __init__(self, mean: Tensor, components: Tensor, scale: Tensor) -> None:
        self.mean, self.components, self.scale = mean, components, scale

    @classmethod
    def fit(cls, batches: Iterable[Tensor]) -> PatchBasis:
        """From batches of pictures, uint8 [B,H,W,3]."""
        count, total, square = 0, torch.zeros(192, dtype=torch.float64), torch.zeros(192, 192, dtype=torch.float64)
        for images in batches:
            patches = to_patches(images.float() / 255).reshape(-1, 192).double()
            count += len(patches)
            total += patches.sum(0)
            square += patches.T @ patches
        mean = total / count
        variances, vectors = torch.linalg.eigh(square / count - torch.outer(mean, mean))
        variances, vectors = variances.flip(0)[:LATENT_CHANNELS], vectors.flip(1)[:, :LATENT_CHANNELS]
        # The sign of an eigenvector is arbitrary: fix it, so that a fit is reproducible.
        vectors = vectors * torch.where(vectors.sum(0) < 0, -1.0, 1.0)
        std = _FIRST_STD * (variances / variances[0]) ** (_ORDERING / 2)
        return cls(mean.float(), vectors.T.float().contiguous(), (std / variances.sqrt()).float())

    def encode(self, images: Tensor) -> Tensor:
        """Pictures, RGB 0..1 [B,H,W,3], to latents [B,16,H/8,W/8]: what the compiled encoder computes."""
        coefficients = (to_patches(images) - self.mean) @ self.components.T
        return (coefficients * self.scale).permute(0, 3, 1, 2).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """The linear reconstruction, RGB [B,H,W,3]: a baseline for the trained decoder."""
        patches = (latents.permute(0, 2, 3, 1) / self.scale) @ self.components + self.mean
        batch, rows, columns, _ = patches.shape
        pixels = patches.reshape(batch, rows, columns, 8, 8, 3).permute(0, 1, 3, 2, 4, 5)
        return pixels.reshape(batch, 8 * rows, 8 * columns, 3)


def to_patches(images: Tensor) -> Tensor:
    """[B,H,W,3] to [B,H/8,W/8,192]."""
    batch, height, width, _ = images.shape
    patches = images.reshape(batch, height // 8, 8, width // 8, 8, 3).permute(0, 1, 3, 2, 4, 5)
    return patches.reshape(batch, height // 8, width // 8, 192)


def compile_encoder(basis: PatchBasis) -> Encoder:
    """The TAESD encoder that computes `basis.encode`."""
    encoder = Encoder()
    for parameter in encoder.parameters():
        nn.init.zeros_(parameter)
    layers = [layer for layer in encoder if isinstance(layer, nn.Conv2d)]
    first, half, quarter, eighth, last = layers
    with torch.no_grad():
        for channel in range(3):
            first.weight[channel, channel, 1, 1] = 1.0
        _space_to_depth(half, 3)
        _space_to_depth(quarter, 12)
        # After two rounds channel (row bits, column bits, rgb) holds one pixel of a 4x4 patch; the third
        # convolution sees a 2x2 block of them and applies the components, once for each sign.
        weights = basis.components.reshape(LATENT_CHANNELS, 8, 8, 3)
        for row in range(8):
            for column in range(8):
                for colour in range(3):
                    source = _depth_channel(row % 4, column % 4, colour)
                    tap = weights[:, row, column, colour]
                    eighth.weight[:LATENT_CHANNELS, source, 1 + row // 4, 1 + column // 4] = tap
                    eighth.weight[LATENT_CHANNELS : 2 * LATENT_CHANNELS, source, 1 + row // 4, 1 + column // 4] = -tap
        for k in range(LATENT_CHANNELS):
            last.weight[k, k, 1, 1] = basis.scale[k]
            last.weight[k, LATENT_CHANNELS + k, 1, 1] = -basis.scale[k]
        assert last.bias is not None
        last.bias.copy_(-basis.scale * (basis.components @ basis.mean))
    return encoder.eval().requires_grad_(False)


def _space_to_depth(conv: nn.Conv2d, channels: int) -> None:
    """Channel c of the pixel at (row, column) of each 2x2 block goes to channel (2 * row + column) * channels + c."""
    for row in range(2):
        for column in range(2):
            for channel in range(channels):
                conv.weight[(2 * row + column) * channels + channel, channel, 1 + row, 1 + column] = 1.0


def _depth_channel(row: int, column: int, colour: int) -> int:
    """Where two rounds of `_space_to_depth` put the pixel (row, column) of a 4x4 patch."""
    inner = (2 * (row % 2) + column % 2) * 3 + colour
    return (2 * (row // 2) + column // 2) * 12 + inner


def state_dict(encoder: Encoder, decoder: Decoder) -> dict[str, Tensor]:
    """What ComfyUI's VAELoader reads, float16."""
    tensors = {f"taesd_encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {f"taesd_decoder.{name}": tensor for name, tensor in decoder.state_dict().items()}
    tensors |= {"vae_scale": torch.tensor(SCALE), "vae_shift": torch.tensor(SHIFT)}
    # The two numbers stay float32: they have to cancel the latent format's exactly.
    return {name: (tensor.detach().half() if tensor.ndim else tensor).contiguous() for name, tensor in tensors.items()}


def from_state_dict(tensors: dict[str, Tensor]) -> tuple[Encoder, Decoder]:
    encoder, decoder = Encoder(), Decoder()
    for module, prefix in ((encoder, "taesd_encoder."), (decoder, "taesd_decoder.")):
        part = {name.removeprefix(prefix): t.float() for name, t in tensors.items() if name.startswith(prefix)}
        module.load_state_dict(part)
        module.eval().requires_grad_(False)
    return encoder, decoder
