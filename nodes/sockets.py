"""Socket types of the pack and the values they carry.

FLUXFACE_FACES: ``nodes.face.types.FaceSet``.
FLUXFACE_VERDICTS: ``tuple[nodes.skin.verdict.Verdict, ...]``, one per image of the batch.
"""

from __future__ import annotations

from comfy_api.latest import io

Faces = io.Custom("FLUXFACE_FACES")
Verdicts = io.Custom("FLUXFACE_VERDICTS")
