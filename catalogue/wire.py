"""Requests to hosts: tokens, redirects, refusals, and trying again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from .errors import Cancelled, ModelError
from .manifest import TRUSTED, Licence, Model

if TYPE_CHECKING:
    import requests

Result = TypeVar("Result")

CIVITAI = "https://civitai.com"
_REDIRECTS = 10
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


def origin(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def tokens_from(env: Mapping[str, str], hub: str) -> dict[str, str]:
    """Tokens by the origin that they belong to.

    Args:
        hub: address of Hugging Face or its mirror.

    Raises:
        ModelError: ``insecure_endpoint``.
    """
    found = {
        origin(hub): env.get("HUGGINGFACE_ACCESS_TOKEN", "").strip() or env.get("HF_TOKEN", "").strip(),
        CIVITAI: env.get("CIVITAI_API_KEY", "").strip(),
    }
    if found[origin(hub)] and not TRUSTED.match(hub):
        raise ModelError(
            "insecure_endpoint",
            "HF_ENDPOINT",
            f"the token for Hugging Face would go to {hub} without TLS",
            "Use an https address, or unset the token",
        )
    return {place: token for place, token in found.items() if token}


class PassingError(Exception):
    """Something that may be over soon.

    Args:
        code, problem: what to say if it is not.
        after: seconds that the host asks to wait.
        advanced: whether much was received before it happened, so that it is no repetition of the last one.
    """

    def __init__(self, code: str, problem: str, after: float | None = None, *, advanced: bool = False) -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem
        self.after = after
        self.advanced = advanced


@dataclass(frozen=True)
class Wire:
    """How to talk to hosts. It may be used from several threads.

    Attributes:
        tokens: by origin; one is sent to that origin only, whatever a redirect says.
        cancel: stops waiting and reading.
        attempts: times that a passing trouble may happen in a row.
        first_wait: seconds before the second attempt; they double from there.
        longest_wait: seconds; where a host asks for more, that is an error.
        timeout: seconds for the connection, and for each read.
    """

    tokens: Mapping[str, str] = field(repr=False)
    cancel: threading.Event
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 300.0
    timeout: tuple[float, float] = (15.0, 30.0)

    def token_for(self, url: str) -> str | None:
        """The token that this address may see."""
        return self.tokens.get(origin(url))

    def persist(self, subject: str, action: Callable[[], Result]) -> Result:
        """What the action returns, trying again after a `PassingError`.

        Raises:
            ModelError: the trouble's code, after the last attempt.
            Cancelled: while waiting.
        """
        failed = 0
        while True:
            self.stop_if_cancelled()
            try:
                return action()
            except PassingError as trouble:
                failed = 1 if trouble.advanced else failed + 1
                wait = self.first_wait * 2 ** (failed - 1)
                # Many downloads that failed together should not come back together.
                wait = min(wait * random.uniform(0.8, 1.2), self.longest_wait)
                if trouble.after is not None:
                    wait = trouble.after
                if failed >= self.attempts or wait > self.longest_wait:
                    raise _final(subject, trouble, failed) from trouble
            if self.cancel.wait(wait):
                raise Cancelled

    def stop_if_cancelled(self) -> None:
        """Raises `Cancelled` once the event is set."""
        if self.cancel.is_set():
            raise Cancelled

    def open(self, method: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        """An answer whose body is not read yet, from wherever redirects lead.

        Raises:
            PassingError: no answer.
            ModelError: ``insecure_redirect`` or ``too_many_redirects``.
        """
        import requests

        first = url
        # A session would keep cookies, and its own redirects know no origins.
        for _ in range(_REDIRECTS):
            self.stop_if_cancelled()
            try:
                response = requests.request(
                    method,
                    url,
                    headers={"Accept-Encoding": "identity", "User-Agent": "flux-face", **headers},
                    auth=_bearer(self.token_for(url)),
                    stream=True,
                    allow_redirects=False,
                    timeout=self.timeout,
                )
            except requests.RequestException as error:
                raise no_answer(url, error) from error
            if not response.is_redirect:
                return response
            response.close()
            target = urljoin(url, response.headers["Location"])
            if url.startswith("https:") and not target.startswith("https:"):
                raise ModelError(
                    "insecure_redirect", origin(first), "it redirects to an address without TLS", "Do not trust it"
                )
            url = target
        raise ModelError("too_many_redirects", origin(first), "it redirects without end", "Try again later")


def no_answer(url: str, error: Exception) -> PassingError:
    """The trouble of a host that cannot be reached or stops answering."""
    # The library's own text holds the address, and a signed address is a secret.
    return PassingError("network", f"{urlsplit(url).hostname} cannot be reached ({type(error).__name__})")


def refusal(
    status: int, headers: Mapping[str, str], url: str, model: Model, licence: Licence, *, with_token: bool
) -> Exception:
    """What a status that is no success means: a `PassingError` or a `ModelError`."""
    host = urlsplit(url).hostname
    if status in _AGAIN:
        code = "rate_limited" if status == 429 else "host_unavailable"
        return PassingError(code, f"{host} answers {status}", retry_after(headers))
    gated = model.gated or headers.get("X-Error-Code") == "GatedRepo"
    if status in (401, 403) and gated:
        account = "the token's account" if with_token else "an account"
        return ModelError(
            "gated",
            model.id,
            f"{host} gives it only to {account} that has accepted the licence {licence.name}",
            f"Accept it on {licence.link} and set HUGGINGFACE_ACCESS_TOKEN to a token with read access",
        )
    if status in (401, 403) and with_token:
        return ModelError(
            "token_refused",
            model.id,
            f"{host} refuses the token ({status})",
            "Make a new one with read access, or unset the variable that holds it",
        )
    if status in (401, 403):
        return ModelError(
            "token_needed",
            model.id,
            f"{host} wants a token, or the file has gone ({status})",
            "Set HUGGINGFACE_ACCESS_TOKEN, or CIVITAI_API_KEY for civitai.com",
        )
    if status in (404, 410):
        return ModelError(
            "not_found", model.id, f"the file is no longer at {host}", "Update the pack, or report it as an issue"
        )
    return ModelError("refused", model.id, f"{host} answers {status}", "Try again later, or report it as an issue")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a host asks to wait, if it does."""
    value = headers.get("Retry-After", "")
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return None


def _final(subject: str, trouble: PassingError, failed: int) -> ModelError:
    if trouble.after is not None:
        return ModelError(
            trouble.code,
            subject,
            f"{trouble.problem} and asks to wait {trouble.after:.0f} s",
            "Wait and run it again; a token raises the limits. What has arrived is kept",
        )
    return ModelError(
        trouble.code,
        subject,
        f"{trouble.problem} (attempt {failed})",
        "Check the connection and run it again; what has arrived is kept",
    )


def _bearer(token: str | None) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    # Given always: without it the library would take a password from ~/.netrc.
    return authorise
