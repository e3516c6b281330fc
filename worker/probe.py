"""One question to ComfyUI: are you ready for a job?"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

ROUTES = "/flux-face/v1"
RESTART_ADVICE = "restart ComfyUI"
WARM_UP_FAILED = "the warm-up failed"
PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Probe:
    """The answer.

    Attributes:
        ready: a job sent now would run.
        detail: why not, in words.
        silent: nothing answered at all.
        broken: it answers and says that only a restart helps, e.g. its prompt worker thread has ended.
        fatal: it runs, but will never have our routes or has failed to warm up.
    """

    ready: bool
    detail: str = ""
    silent: bool = False
    broken: bool = False
    fatal: bool = False


def probe(url: str) -> Probe:
    """Ask ``GET /flux-face/v1/ready``; never raises."""
    address = urlsplit(url)
    connect = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = connect(address.hostname or "", address.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", f"{address.path}{ROUTES}/ready")
        answer = connection.getresponse()
        body = answer.read()
    except TimeoutError:
        return Probe(False, f"no answer from {url} within {PROBE_TIMEOUT_S:g} s", silent=True)
    except (OSError, http.client.HTTPException) as error:
        return Probe(False, f"no answer from {url}: {error or type(error).__name__}", silent=True)
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.OK:
        return Probe(True)
    if answer.status == http.HTTPStatus.NOT_FOUND:
        return Probe(
            False,
            "ComfyUI runs without the Flux Face routes: the pack is not in its custom_nodes folder, or failed to load "
            "(its log says why)",
            fatal=True,
        )
    return _unready(answer.status, body)


def _unready(status: int, body: bytes) -> Probe:
    """A 503 lists its reasons; a full queue passes, others say that only a restart helps or that nothing does."""
    try:
        reasons = [str(reason) for reason in json.loads(body)["reasons"]]
    except (ValueError, KeyError, TypeError):
        return Probe(False, f"/ready answered HTTP {status}")
    return Probe(
        False,
        "; ".join(reasons),
        broken=any(RESTART_ADVICE in reason for reason in reasons),
        fatal=any(reason.startswith(WARM_UP_FAILED) for reason in reasons),
    )
