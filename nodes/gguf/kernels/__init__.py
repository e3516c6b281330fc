"""One-pass dequantisation on NVIDIA and AMD GPUs, where Triton is installed.

Triton is imported on the first use. Where it is missing, or cannot build a kernel, the process goes without it from
then on and the log says so once.
"""

from __future__ import annotations

import logging
import threading

import torch

from ..tensor_types import TensorType

log = logging.getLogger(__name__)

_unusable = threading.Event()


def try_expand(packed: torch.Tensor, tensor_type: TensorType, out: torch.Tensor) -> bool:
    """Writes the values of ``packed`` into ``out``, as ``expand.expand`` does.

    Returns:
        False where there is no kernel for the type or Triton cannot be used; ``out`` is then undefined.
    """
    if _unusable.is_set():
        return False
    try:
        from .decode import DECODERS
        from .expand import expand

        if tensor_type not in DECODERS:
            return False
        expand(packed, tensor_type, out)
    except Exception as error:  # from the import to the assembler, every stage fails in its own way
        if not _unusable.is_set():
            log.warning("GGUF weights are dequantised without Triton: %s", _reason(error))
        _unusable.set()
        return False
    return True


def _reason(error: Exception) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"
