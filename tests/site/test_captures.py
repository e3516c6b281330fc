"""What docs/deploy.md shows as a terminal is what the commands print, as far as it is the same everywhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from flux_face.devtools.pack import ROOT

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
SHOWN = {command: output for block in _BLOCK.findall(PAGE) for command, output in _COMMAND.findall(block)}
EXACT = [command for command in SHOWN if re.match(r"python (catalogue|worker/client capacity)", command)]


def printed(command: str) -> str:
    """What a command prints whose first word is Python; what it writes to the error stream last."""
    arguments = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", EXACT)
def test_a_command_prints_what_is_shown(command: str) -> None:
    assert printed(command) == SHOWN[command]


def test_the_doctors_subjects_are_those_shown() -> None:
    def subjects(table: str) -> list[str]:
        return re.findall(r"^(?:OK|WARN|FAIL) +(\w+(?: \w+)?)  ", table, re.MULTILINE)

    shown = subjects(SHOWN["python3 dev.py doctor"])
    assert len(shown) > 8
    assert subjects(printed("python3 dev.py doctor")) == shown


def test_the_start_script_refuses_as_shown() -> None:
    script = (ROOT / "docker" / "start.sh").read_text(encoding="utf-8")
    for command in (command for command in SHOWN if command.endswith("docker/start.sh")):
        assert SHOWN[command].splitlines()[-1].removeprefix("flux-face: ").partition("=")[0] in script
