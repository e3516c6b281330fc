"""The one error a user can cause and mend."""

from __future__ import annotations


class UserInputError(ValueError):
    """Bad input, told so that the reader can mend it.

    Args:
        code: stable machine-readable name, e.g. ``photo_no_face``.
        field: the input that is wrong, by the name its user knows, e.g. ``user_photo``.
        problem: what is wrong, with the value and the limit.
        remedy: what to do about it.
    """

    def __init__(self, code: str, field: str, problem: str, remedy: str) -> None:
        # ComfyUI passes on only the exception's text, so the code travels in it.
        super().__init__(f"[{code}] {field}: {problem}. {remedy}")
        self.code = code
        self.field = field
        self.problem = problem
        self.remedy = remedy
