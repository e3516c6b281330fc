"""docs/worker.md: its table of variables is that of the code."""

from __future__ import annotations

import re
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from flux_face.server_routes.settings import VARIABLES, Limits
from flux_face.worker.process import ROUTE_LIMITS
from flux_face.worker.settings import PACK, Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "worker.md"


def _default(setting: Field[Any]) -> str:
    value = setting.default
    if isinstance(value, Path):
        return f"`{value.relative_to(PACK)}` of the pack"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value in (None, ()) else f"{value:g}"


def _rows() -> list[str]:
    return [
        f"| {', '.join(f'`{name}`' for name in setting.metadata['names'])} | {_default(setting)} "
        f"| {setting.metadata['meaning']} |"
        for setting in fields(Settings)
    ]


def test_the_table_has_every_variable_of_the_worker_as_the_code_has_it() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| Variable | Default | Meaning |") + 2
    assert lines[start : start + len(fields(Settings))] == _rows()
    assert not lines[start + len(fields(Settings))].startswith("|")


def test_every_other_variable_on_the_page_is_one_of_the_routes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"FLUX_FACE_[A-Z_]+", text)) - {"FLUX_FACE_"}
    ours = {name for setting in fields(Settings) for name in setting.metadata["names"]}
    routes = {f"FLUX_FACE_{name}" for name in (*VARIABLES, *(limit.name.upper() for limit in fields(Limits)))}
    assert named - ours <= routes
    assert set(ROUTE_LIMITS) <= named
    for name, value in ROUTE_LIMITS.items():
        assert re.search(rf"`{name}`.* \| {value} \|", text)
