"""The doctor over HTTP."""

from __future__ import annotations

from flux_face.tests.routes.client import Client
from flux_face.tests.routes.conftest import ADMIN


async def test_admins_are_told_how_the_machine_is(wide: Client) -> None:
    answer = await wide.get("/doctor", headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.code == 200
    found = {finding["name"]: finding for finding in answer.body["findings"]}
    assert found["comfyui"]["level"] == "ok"
    assert "a session runs on" in found["onnx provider"]["what"]
    # The default profile's models, of which a test machine has none.
    assert found["models"]["level"] == "fail"
    assert answer.body["healthy"] is False
    # Its own ports are taken, by itself.
    assert not [name for name in found if name.startswith("port")]


async def test_others_are_not(wide: Client) -> None:
    assert (await wide.get("/doctor")).code == 403
