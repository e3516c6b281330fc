"""What can go wrong between the client and its targets."""

from __future__ import annotations


class UsageError(ValueError):
    """The user asked for what cannot be done; nothing was sent.

    Args:
        problem: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")


class TargetError(RuntimeError):
    """A target refuses all our requests, for a reason that only its user can mend: a wrong key, a wrong address."""


class ItemError(RuntimeError):
    """One job cannot be sent, or has no usable result.

    Args:
        code: machine-readable name.
        problem: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, code: str, problem: str, remedy: str) -> None:
        super().__init__(f"[{code}] {problem}. {remedy}")
        self.code = code


class RefusedError(RuntimeError):
    """The target refused this request and would refuse it again; the message is the target's own."""


class BusyError(RuntimeError):
    """The target takes no more for the moment (429).

    Attributes:
        retry_after_s: how long it asks to wait; None where it does not say.
    """

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__("too many requests")
        self.retry_after_s = retry_after_s


class UnavailableError(RuntimeError):
    """No usable answer.

    Attributes:
        maybe_accepted: whether the request may have arrived and only its answer was lost.
        retry_after_s: how long the target asks to wait; None where it does not say.
    """

    def __init__(self, message: str, *, maybe_accepted: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.maybe_accepted = maybe_accepted
        self.retry_after_s = retry_after_s


class LostError(RuntimeError):
    """The target does not know the job: it has lost it, or its result has expired."""
