"""The original's RunPod handler, from its specification: checks, polls, and swaps through another service.

Run as a script under the real SDK, with ``ORIGINAL_`` variables that say where things are. With ``ORIGINAL_EMPTY`` its
handler does nothing, which shows what the SDK itself costs.
"""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import runpod

CHECK_INTERVAL_S, CHECKS = 0.05, 500
POLL_INTERVAL_S, POLLS = 0.25, 500
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def handler(job: dict[str, Any]) -> dict[str, Any]:
    """One job; its timings say what the graph and the swap took by themselves."""
    given = job["input"]
    workflow = json.loads(Path(os.environ["ORIGINAL_WORKFLOW"]).read_text(encoding="utf-8"))
    for node in workflow.values():
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"]["batch_size"] = given["batch_size"]
        elif node["class_type"] == "BasicScheduler":
            node["inputs"]["steps"] = given["num_steps"]
        elif node["class_type"] == "CLIPTextEncode":
            node["inputs"]["text"] = given["prompt"]
        elif node["class_type"] == "RandomNoise":
            node["inputs"]["noise_seed"] = given["seed"]
    comfyui = os.environ["ORIGINAL_COMFYUI"]
    _check_server(comfyui)
    prompt_id = _call(f"{comfyui}/prompt", {"prompt": workflow})["prompt_id"]
    entry = _wait(comfyui, prompt_id)
    images, compute_ms = [], _graph_ms(entry)
    for output in entry["outputs"].values():
        for image in output.get("images", ()):
            path = Path(os.environ["ORIGINAL_OUTPUT"], image["subfolder"], image["filename"])
            target = base64.b64encode(path.read_bytes()).decode("ascii")
            swap_input = {"source_image": given["user_photo"], "target_image": target}
            answer = _call(os.environ["ORIGINAL_SWAP"], {"input": swap_input})
            compute_ms += answer["compute_ms"]
            if not _is_skin_color_normal(answer["image"]):
                return {"error": "the skin colour is not normal"}
            images.append(answer["image"])
    return {"images": images, "compute_ms": compute_ms}


def _check_server(url: str) -> None:
    for _ in range(CHECKS):
        try:
            with _OPENER.open(url, timeout=10):
                return
        except OSError:
            time.sleep(CHECK_INTERVAL_S)
    raise RuntimeError("ComfyUI is not available")


def _wait(url: str, prompt_id: str) -> dict[str, Any]:
    for _ in range(POLLS):
        history = _call(f"{url}/history/{prompt_id}")
        if history.get(prompt_id, {}).get("outputs"):
            entry: dict[str, Any] = history[prompt_id]
            return entry
        time.sleep(POLL_INTERVAL_S)
    raise RuntimeError("ComfyUI took too long")


def _call(url: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  (from the benchmark)
    with _OPENER.open(request, timeout=300) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def _graph_ms(entry: dict[str, Any]) -> float:
    times = {kind: data["timestamp"] for kind, data in entry["status"]["messages"] if "timestamp" in data}
    return float(times["execution_success"] - times["execution_start"])


def _is_skin_color_normal(encoded: str) -> bool:
    """At least a tenth of a per cent of the picture has a usual colour of skin."""
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
    hsv = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
    mask = cv2.inRange(hsv, np.array([0, 20, 70]), np.array([20, 255, 255]))
    return bool(cv2.countNonZero(mask) / mask.size > 0.001)


def empty(job: dict[str, Any]) -> dict[str, Any]:
    """Nothing but what the SDK does for every job."""
    return {"id": job["id"], "compute_ms": 0.0}


if __name__ == "__main__":
    runpod.serverless.start({"handler": empty if os.environ.get("ORIGINAL_EMPTY") else handler})
