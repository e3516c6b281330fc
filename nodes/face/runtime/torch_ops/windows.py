"""What convolution and pooling share: how a window slides over the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from .registry import Setup, UnsupportedError

AUTO_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True)
class Window:
    """A sliding window; one entry per spatial axis.

    Attributes:
        pads: before and after, as given; None where there are none or `auto_pad` finds them.
    """

    auto_pad: str
    strides: tuple[int, ...] | None
    dilations: tuple[int, ...] | None
    pads: tuple[int, ...] | None
    ceil_mode: bool

    @classmethod
    def read(cls, node: Setup, pooling: bool = False) -> Window:
        """From a node's attributes; only pooling has a ceil_mode."""
        auto_pad = node.choice("auto_pad", "NOTSET", AUTO_PAD)
        ceil_mode = pooling and node.flag("ceil_mode", False)
        strides, dilations, pads = (_several(node.integers(name)) for name in ("strides", "dilations", "pads"))
        return cls(auto_pad, strides, dilations, pads, ceil_mode)

    def placed(self, sizes: Sequence[int], kernel: Sequence[int]) -> Placed:
        """Where it lies over axes of these sizes."""
        count = len(sizes)
        ones = (1,) * count
        strides, dilations = self.strides or ones, self.dilations or ones
        pads = self.pads if self.auto_pad == "NOTSET" and self.pads else (0,) * (2 * count)
        if len(kernel) != count or len(strides) != count or len(dilations) != count or len(pads) != 2 * count:
            raise ValueError(f"a window with {len(kernel)} axes over {count}")
        before, after = list(pads[:count]), list(pads[count:])
        extra = [0] * count
        for axis, size in enumerate(sizes):
            step, reach = strides[axis], dilations[axis] * (kernel[axis] - 1) + 1
            if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
                total = max(0, (-(-size // step) - 1) * step + reach - size)
                before[axis] = total // 2 if self.auto_pad == "SAME_UPPER" else total - total // 2
                after[axis] = total - before[axis]
            elif self.ceil_mode and self.auto_pad == "NOTSET":
                over = (size + before[axis] + after[axis] - reach) % step
                start = size + before[axis] + after[axis] - reach - over + step
                # A window that would start behind the padded input is left out.
                if over and start < size + before[axis]:
                    extra[axis] = step - over
        return Placed(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(extra))


@dataclass(frozen=True)
class Placed:
    """A window over axes of known size; `extra` lies behind `after` and belongs to no padding."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    extra: tuple[int, ...]

    @property
    def even(self) -> bool:
        """True where torch's own padding can express it."""
        return self.before == self.after and not any(self.extra)

    def pad(self, x: Tensor, value: float = 0.0, extra_value: float | None = None) -> Tensor:
        """The input padded with `value`, and with `extra_value`, or `value`, where it needs more."""
        if extra_value is not None or not any(self.extra):
            x = functional.pad(x, interleaved(self.before, self.after), value=value)
            if not any(self.extra):
                return x
            return functional.pad(x, interleaved([0] * len(self.extra), self.extra), value=extra_value or 0.0)
        behind = [a + b for a, b in zip(self.after, self.extra, strict=True)]
        return functional.pad(x, interleaved(self.before, behind), value=value)


def interleaved(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Amounts in the order that ``functional.pad`` takes: the last axis first."""
    return [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]


def spatial(x: Tensor) -> tuple[int, ...]:
    """The sizes behind batch and channels: one to three of them."""
    if not 3 <= x.dim() <= 5:
        raise UnsupportedError(f"{x.dim()} dimensions")
    return tuple(x.shape[2:])


def _several(values: list[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
