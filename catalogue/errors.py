"""What can go wrong with a model, told so that the reader can mend it."""

from __future__ import annotations

from collections.abc import Sequence


class ModelError(Exception):
    """One thing that is wrong.

    Args:
        code: stable machine-readable name, e.g. ``checksum_mismatch``.
        subject: the model's id, or the name that was asked for.
        problem: what is wrong. It never holds a token.
        remedy: what to do about it.
    """

    def __init__(self, code: str, subject: str, problem: str, remedy: str) -> None:
        super().__init__(f"[{code}] {subject}: {problem}. {remedy}")
        self.code = code
        self.subject = subject
        self.problem = problem
        self.remedy = remedy


class DownloadError(Exception):
    """A download that is not complete; what did arrive is in place.

    errors: what went wrong, at least one.
    """

    def __init__(self, errors: Sequence[ModelError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


class Cancelled(Exception):  # noqa: N818  (no error: somebody asked for it)
    """The download was stopped by its event; partial files stay and are gone on with next time."""
