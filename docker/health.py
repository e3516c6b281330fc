"""The image's health check: exit code 0 where a job sent now would run, 1 with the reason where not."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request

PATH = "/flux-face/v1/ready"


def main() -> int:
    """Ask once."""
    url = f"http://127.0.0.1:{os.environ.get('FLUX_FACE_COMFYUI_PORT') or 8188}{PATH}"
    # The server is in this container, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=8):
            return 0
    except urllib.error.HTTPError as error:
        reasons = json.loads(error.read()).get("reasons", []) if error.code == 503 else [f"HTTP {error.code}"]
        sys.stdout.write("; ".join(reasons) + "\n")
    except OSError as error:
        sys.stdout.write(f"{url}: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
