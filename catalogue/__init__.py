"""The models that the profiles and the face engine use: where they come from, and how they get here.

``manifest`` says what there is, ``download`` fetches it, ``presence`` tells what is there already. The package imports
nothing of the rest of the pack, so that ``python path/to/catalogue`` works under any name and without ComfyUI.
"""
