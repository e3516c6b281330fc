"""dev.py refuses what cannot work, in one line with a remedy."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flux_face.dev import python_problem
from flux_face.devtools.cli import run as run_cli
from flux_face.devtools.comfyui import given_comfyui
from flux_face.devtools.console import SetupError
from flux_face.devtools.pack import ROOT
from flux_face.devtools.packages import installer_error
from flux_face.devtools.workspace import check_disk, free_bytes, tree_bytes

GB = 10**9


def test_old_python_is_told_in_one_line() -> None:
    problem = python_problem((3, 9))
    assert problem is not None
    assert "3.10" in problem
    assert "3.9" in problem
    assert "\n" not in problem
    assert python_problem((3, 10)) is None
    assert python_problem((4, 0)) is None


def test_dev_py_parses_on_old_pythons() -> None:
    # 3.4 had neither f-strings nor annotated variables: whoever can parse this gets as far as the message.
    ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 4))


def test_full_disk_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"Packages needs 12\.0 GB of disk; .* has 3\.0 GB free\. Free some space"):
        check_disk(tmp_path, 12 * GB, "Packages", free=lambda _: 3 * GB)


def test_what_is_there_already_needs_no_room(tmp_path: Path) -> None:
    check_disk(tmp_path, 12 * GB, "Packages", present=10 * GB, free=lambda _: 3 * GB)


def test_disk_measures(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
    assert tree_bytes(tmp_path / "absent") == 0
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"123")
    assert tree_bytes(tmp_path / "folder") == 3


def test_comfyui_path_without_comfyui(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"COMFYUI_PATH is .*, where there is no main\.py\. Set it to"):
        given_comfyui({"COMFYUI_PATH": str(tmp_path)})


def test_comfyui_path_is_optional() -> None:
    assert given_comfyui({}) is None
    assert given_comfyui({"COMFYUI_PATH": ""}) is None


@pytest.mark.parametrize(("version", "warned"), [("0.30.7", False), ("0.31.0", True)])
def test_comfyui_path_with_another_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, warned: bool
) -> None:
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    assert given_comfyui({"COMFYUI_PATH": str(tmp_path)}) == tmp_path.resolve()
    assert (version in capsys.readouterr().err) is warned


def test_no_arguments_show_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([]) == 0
    shown = capsys.readouterr().out
    for command in ("demo", "test", "serve", "bench", "lint", "lock"):
        assert f"    {command} " in shown


def test_unknown_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        run_cli(["lint", "--fast"])
    assert refusal.value.code == 2
    assert "--fast" in capsys.readouterr().err


def test_occupied_port_is_refused_before_comfyui_starts() -> None:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        answer = subprocess.run(
            [sys.executable, ROOT / "dev.py", "serve", "--port", str(port)], capture_output=True, text=True
        )
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith(f"Error: ComfyUI cannot listen on 127.0.0.1:{port}")
    assert "--port" in answer.stderr


def test_no_package_access_is_recognised(tmp_path: Path) -> None:
    answer = _pip_install(tmp_path, "no-such-package==1.0", "--index-url", "http://127.0.0.1:9/simple")
    assert str(installer_error(answer, "X")).startswith("The package index cannot be reached")


def test_hash_mismatch_is_recognised(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "sample-1.0-py3-none-any.whl").write_bytes(b"not what was pinned")
    answer = _pip_install(
        tmp_path, f"sample==1.0 --hash=sha256:{'0' * 64}", "--no-index", "--find-links", wheels.as_uri()
    )
    assert "hash mismatch" in str(installer_error(answer, "X"))


def test_full_disk_is_recognised() -> None:
    # How uv and pip repeat the operating system's words.
    for words in ("No space left on device (os error 28)", "[Errno 28] No space left on device"):
        assert str(installer_error(words, "X")).startswith("The disk is full")


def test_other_failures_point_to_the_installer() -> None:
    assert str(installer_error("error: something else", "The packages")).startswith(
        "The packages could not be installed"
    )


def _pip_install(directory: Path, requirement: str, *options: str) -> str:
    """What pip prints when it fails to fetch ``requirement``."""
    requirements = directory / "requirements.txt"
    requirements.write_text(requirement + "\n")
    command = [sys.executable, "-m", "pip", "--isolated", "download", "--no-deps", "--retries", "0", *options]
    answer = subprocess.run(
        [*command, "-r", requirements, "-d", directory / "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert answer.returncode != 0
    return answer.stdout
