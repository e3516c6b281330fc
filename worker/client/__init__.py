"""The fleet client: sends jobs to RunPod endpoints and to servers of ours, and collects their results.

``python path/to/worker/client --help``, or ``python -m worker.client`` in the pack's root. Like the worker, it talks
HTTP only and imports nothing of the pack.
"""
