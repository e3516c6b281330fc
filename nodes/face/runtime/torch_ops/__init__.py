"""ONNX operators as torch functions, by subject; importing the package fills ``registry.OPERATORS``."""

from __future__ import annotations

from . import elementwise, indexing, linear, noise, normalisation, pooling, reductions, resize, shapes
from .registry import OPERATORS, Context, Kernel, Operator, Setup, UnsupportedError

__all__ = [
    "OPERATORS",
    "Context",
    "Kernel",
    "Operator",
    "Setup",
    "UnsupportedError",
    "elementwise",
    "indexing",
    "linear",
    "noise",
    "normalisation",
    "pooling",
    "reductions",
    "resize",
    "shapes",
]
