"""The RunPod worker: supervises ComfyUI and adapts RunPod jobs to the routes on its server.

It talks to the routes over HTTP only and imports nothing of the pack, so the package works under any name:
``python path/to/worker``, ``python -m worker`` in the pack's root, or ``flux_face.worker``.
"""
