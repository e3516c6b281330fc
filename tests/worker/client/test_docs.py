"""docs/fleet.md: its commands are understood, and its numbers are what the commands print."""

from __future__ import annotations

import re
import shlex

import pytest

from flux_face.tests.worker.client.process import ROOT
from flux_face.worker.client.cli import main, make_parser

PAGE = ROOT / "docs" / "fleet.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_COMMAND = "python worker/client "


def examples() -> list[tuple[list[str], str]]:
    """Every command of the page, and what it is said to print."""
    return [
        (shlex.split(line.removeprefix(_COMMAND)), output)
        for block, output in _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith(_COMMAND)
    ]


def test_the_commands_are_understood() -> None:
    commands = [arguments for arguments, _ in examples()]
    assert {arguments[0] for arguments in commands} == {"submit", "status", "cancel", "batch", "capacity"}
    for arguments in commands:
        make_parser().parse_args(arguments)


def test_the_numbers_are_those_of_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    worked = [(arguments, output) for arguments, output in examples() if arguments[0] == "capacity"]
    assert len(worked) == 3
    for arguments, output in worked:
        assert main(arguments) == 0
        assert capsys.readouterr().out == output


def test_every_option_that_the_page_names_exists() -> None:
    commands = next(action for action in make_parser()._actions if action.choices).choices
    assert isinstance(commands, dict)
    known = {option for parser in commands.values() for action in parser._actions for option in action.option_strings}
    named = set(re.findall(r"`(--[a-z-]+)", PAGE.read_text(encoding="utf-8")))
    assert named - known == set()
