"""The original's face-swap service: FastAPI, pictures as base64 in JSON; the swap itself is ours.

Run as ``python devtools/pack.py devtools.bench._original_swap PORT``.
"""

from __future__ import annotations

import base64
import io
import sys
import time
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image

from ...nodes.face.engines import classic_engine
from ...nodes.face.swap import photo_identity, swap_faces

app = FastAPI()
engine = classic_engine()


@app.post("/api/runpod")
def runpod(body: dict[str, Any]) -> dict[str, Any]:
    """Put ``source_image``'s face into ``target_image``; ``compute_ms`` is the swap without what is around it."""
    photo, target = (_tensor(body["input"][name]) for name in ("source_image", "target_image"))
    started = time.perf_counter()
    result = swap_faces(engine, target, [photo_identity(engine, photo)], target="largest")
    compute_ms = 1000 * (time.perf_counter() - started)
    encoded = io.BytesIO()
    pixels = result.images[0].mul(255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=1)
    return {"image": base64.b64encode(encoded.getvalue()).decode("ascii"), "compute_ms": compute_ms}


def _tensor(encoded: str) -> torch.Tensor:
    """``[1, H, W, 3]`` in 0..1."""
    data = base64.b64decode(encoded.partition("base64,")[2] or encoded)
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(picture / 255.0)[None]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
