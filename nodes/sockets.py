"""Socket types of the pack and the values they carry.

FLUXFACE_ENGINE: ``nodes.face.engines.FaceEngine``.
FLUXFACE_FACES: ``nodes.face.types.FaceSet``.
FLUXFACE_IDENTITY: ``tuple[nodes.face.identity.Identity, ...]``, one person or several in order.
FLUXFACE_SWAP_OPTIONS: ``nodes.face.engines.SwapSettings``.
FLUXFACE_VERDICTS: ``tuple[nodes.skin.verdict.Verdict, ...]``, one per image of the batch.
"""

from __future__ import annotations

from comfy_api.latest import io

Engine = io.Custom("FLUXFACE_ENGINE")
Faces = io.Custom("FLUXFACE_FACES")
Identities = io.Custom("FLUXFACE_IDENTITY")
SwapOptions = io.Custom("FLUXFACE_SWAP_OPTIONS")
Verdicts = io.Custom("FLUXFACE_VERDICTS")
