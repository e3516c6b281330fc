"""The command line of dev.py."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import browser, comfyui, console, packages, quality, setup, site
from .console import SetupError, say
from .pack import ROOT
from .workspace import Workspace

DESCRIPTION = """\
Flux Face: Flux portraits with your face in them, judged by skin tone, in one ComfyUI graph.

The first run makes .venv and .comfyui in this folder (about 12 GB of disk); later runs need no network.
COMFYUI_PATH names a ComfyUI source tree to use instead of the one that is fetched."""

PASSED_ON = "further arguments are passed on"

# For all tests: most of them wait for a server, which more than two at a time may lack the memory for. A file's tests
# stay together, as they share its servers.
TWO_AT_A_TIME = ("-n", "2", "--dist", "loadfile")


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    options, rest = parser.parse_known_args(arguments)
    if rest and not options.passes_on:
        parser.error(f"unrecognised arguments: {' '.join(rest)}")
    command: Callable[[Workspace, argparse.Namespace, list[str]], int] = options.command
    try:
        return command(Workspace(ROOT), options, rest)
    except SetupError as error:
        say(f"Error: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"Interrupted. {packages.AGAIN}")
        return 130


def demo(workspace: Workspace, _options: argparse.Namespace, rest: list[str]) -> int:
    """Run a whole job and write its pictures, report and page."""
    return console.run(
        setup.pack_command(workspace, "devtools.demo", *rest), env=_environment(setup.ensure_all(workspace))
    )


def test(workspace: Workspace, _options: argparse.Namespace, rest: list[str]) -> int:
    """Run the tests, all of them or those named."""
    environment = _environment(setup.ensure_all(workspace))
    browser.ensure_chromium()
    tests = workspace.root / "tests"
    where = [] if any(_is_below(tests, argument) for argument in rest) else [*TWO_AT_A_TIME, str(tests)]
    return console.run([workspace.python, "-m", "pytest", "-c", tests / "pytest.ini", *where, *rest], env=environment)


def serve(workspace: Workspace, options: argparse.Namespace, rest: list[str]) -> int:
    """Run ComfyUI with the pack until Ctrl-C."""
    _check_port(options.listen, options.port)
    source = setup.ensure_all(workspace)
    flags = ["--listen", options.listen, "--port", str(options.port), "--disable-auto-launch"]
    if not _has_accelerator(workspace):
        say("PyTorch sees no accelerator: ComfyUI runs on the CPU.")
        flags.append("--cpu")
    shown = "127.0.0.1" if options.listen == "0.0.0.0" else options.listen  # noqa: S104 (compares, binds nothing)
    say(f"Starting ComfyUI. In about half a minute it is at http://{shown}:{options.port} (Ctrl-C ends it).")
    command = [workspace.python, source / "main.py", "--base-directory", workspace.base, *flags, *rest]
    try:
        return console.run(command, env={"FLUX_FACE_DEFAULT_PROFILE": "starter", **_environment(source)})
    except KeyboardInterrupt:
        return 0


def bench(workspace: Workspace, options: argparse.Namespace, _rest: list[str]) -> int:
    """Run one benchmark."""
    environment = _environment(setup.ensure_all(workspace))
    output = ["--json", str(options.json.resolve())] if options.json else []
    output += ["--docs"] if options.docs else []
    return console.run(setup.pack_command(workspace, "devtools.bench", options.name, *output), env=environment)


def templates(workspace: Workspace, _options: argparse.Namespace, rest: list[str]) -> int:
    """Write the web page's templates and blueprints anew."""
    return console.run(
        setup.pack_command(workspace, "devtools.templates", *rest), env=_environment(setup.ensure_all(workspace))
    )


def lint(workspace: Workspace, _options: argparse.Namespace, _rest: list[str]) -> int:
    """Check style and types."""
    setup.ensure_packages(workspace)
    return quality.lint(workspace)


def doctor(workspace: Workspace, _options: argparse.Namespace, rest: list[str]) -> int:
    """Say whether this machine can run the pack; installs nothing."""
    python: Path | str = workspace.python
    if not workspace.python.exists():
        say(f"There is no .venv yet: looking with {sys.executable}. python3 dev.py serve sets it up.")
        python = sys.executable
    comfyui_path = os.environ.get("COMFYUI_PATH") or comfyui.own_comfyui(workspace)
    command = [python, workspace.root / "doctor", "--comfyui", comfyui_path, "--models-dir", workspace.base / "models"]
    command += ["--model-type", "starter", "--writable", workspace.base, "--port", "8188"]
    return console.run([*command, *rest])


def docs(workspace: Workspace, options: argparse.Namespace, _rest: list[str]) -> int:
    """Build the documentation's site."""
    environment = _environment(setup.ensure_all(workspace))
    return site.build(workspace, options.out.resolve(), environment)


def lock(workspace: Workspace, options: argparse.Namespace, _rest: list[str]) -> int:
    """Resolve the pinned packages anew."""
    packages.compile_locks(workspace, options.names)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(
        function: Callable[[Workspace, argparse.Namespace, list[str]], int], text: str, *, passes_on: bool = False
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            function.__name__, help=text, description=text, add_help=not passes_on, allow_abbrev=False
        )
        command.set_defaults(command=function, passes_on=passes_on)
        return command

    add(demo, "portrait, face swap and QA from one photograph (--photo, --prompt, --out …)", passes_on=True)
    add(test, f"the tests; {PASSED_ON} to pytest", passes_on=True)
    server = add(serve, f"ComfyUI with the pack; {PASSED_ON} to ComfyUI", passes_on=True)
    server.add_argument("--listen", default="127.0.0.1", help="address (default %(default)s)")
    server.add_argument("--port", type=int, default=8188, help="port (default %(default)s)")
    measure = add(bench, "measure one room against its references")
    measure.add_argument("name", help="gguf, face, qa, …: a module of devtools/bench")
    measure.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    measure.add_argument("--docs", action="store_true", help="write the page docs/benchmarks/NAME.md too")
    add(templates, "write the web page's templates and blueprints anew (--thumbnails)", passes_on=True)
    add(doctor, "whether this machine can run the pack (--model-type, --gpu, --json …)", passes_on=True)
    pages = add(docs, "the documentation as a site, in out/site")
    pages.add_argument("--out", type=Path, default=ROOT / "out" / "site", metavar="DIR", help="another folder")
    add(lint, "ruff and mypy")
    resolve = add(lock, "resolve requirements/*.in anew into the lock files (needs uv)")
    resolve.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(packages.LOCKS)}; all if none is named")
    return parser


def _is_below(directory: Path, argument: str) -> bool:
    path = Path(argument.partition("::")[0]).resolve()
    return path.exists() and path.is_relative_to(directory)


def _environment(source: Path) -> dict[str, str]:
    environment = {**os.environ, "COMFYUI_PATH": str(source)}
    chromium = browser.find_chromium()
    if chromium is not None:
        environment["CHROMIUM"] = str(chromium)
    return environment


def _has_accelerator(workspace: Workspace) -> bool:
    check = "import sys, torch; sys.exit(not torch.accelerator.is_available())"
    return subprocess.run([workspace.python, "-c", check]).returncode == 0


def _check_port(address: str, port: int) -> None:
    with socket.socket() as probe:
        # Else a port that was served a minute ago counts as taken. On Windows the option means the contrary.
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise SetupError(
                f"ComfyUI cannot listen on {address}:{port} ({error.strerror})", "Choose with --port."
            ) from None
