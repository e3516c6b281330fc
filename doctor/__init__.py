"""The doctor: whether this machine can run the pack, and what to do where it cannot.

One diagnosis, told three ways: ``python path/to/doctor`` prints a table (``dev.py doctor`` and the container's start
script call that), ``--json`` and ``GET /flux-face/v1/doctor`` give it to programs. Nothing of ComfyUI is imported, and
a package that is missing is a finding.
"""
