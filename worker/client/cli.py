"""The client's command line."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .capacity import Scenario, as_text, simulate
from .errors import ItemError, LostError, RefusedError, TargetError, UsageError

KEYS = "Keys come from the environment: RUNPOD_API_KEY for endpoints, FLUX_FACE_TOKEN for servers."
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for what failed, 2 for what cannot be asked for, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = make_parser().parse_args(given)
    options.arguments = given
    try:
        code: int = options.command(options)
    except UsageError as error:
        return _fail(str(error), 2)
    except (TargetError, ItemError, LostError, RefusedError) as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename or 'disk'}: {error.strerror or error}", 1)
    except sqlite3.Error as error:
        return _fail(f"the batch's state cannot be written: {error}", 1)
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed. pip install 'aiohttp>=3.11' tqdm", 2)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="client", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text}. {KEYS}", allow_abbrev=False)
        sub.set_defaults(command=command)
        return sub

    submit = add("submit", "Send one job", _remote("submit"))
    _add_targets(submit)
    _add_input(submit)
    submit.add_argument("--photo", type=Path, metavar="FILE", help="the input field user_photo")
    submit.add_argument("--wait", action="store_true", help="wait for its end and write its pictures")
    submit.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to (default: here)")

    status = add("status", "Ask for a job's state", _remote("status"))
    status.add_argument("id")
    _add_targets(status)
    status.add_argument("--out", type=Path, metavar="DIR", help="write its pictures there if it has completed")

    cancel = add("cancel", "Cancel a job", _remote("cancel"))
    cancel.add_argument("id")
    _add_targets(cancel)

    batch = add("batch", "Send a job for every photo of a folder or row of a CSV file", _remote("batch"))
    batch.add_argument("source", type=Path, help="folder of photos, or CSV file whose columns are input fields")
    batch.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="pictures, report and state; resumes what is there"
    )
    _add_targets(batch)
    _add_input(batch)
    batch.add_argument(
        "--in-flight", type=_count, default=4, metavar="N", help="jobs at a time per target (%(default)s)"
    )
    batch.add_argument("--retries", type=_count_or_0, default=1, metavar="N", help="of a job that fails (%(default)s)")
    batch.add_argument(
        "--resubmissions", type=_count_or_0, default=2, metavar="N", help="of a job that is lost (%(default)s)"
    )
    batch.add_argument("--retry-failed", action="store_true", help="begin anew what failed in an earlier run")
    batch.add_argument(
        "--forget-missing", action="store_true", help="send again what is on targets that are not given any more"
    )
    batch.add_argument(
        "--give-up-after", type=_positive, default=600.0, metavar="S", help="if no target answers (%(default)g s)"
    )
    batch.add_argument("--cancel-on-interrupt", action="store_true", help="Ctrl-C cancels the jobs that were sent")
    batch.add_argument("--quiet", action="store_true", help="no progress bar")

    _add_capacity(add("capacity", "Simulate what a RunPod endpoint would serve and cost", _capacity))
    return parser


def _remote(name: str) -> Callable[[argparse.Namespace], int]:
    def command(options: argparse.Namespace) -> int:
        # aiohttp loads here, so that the rest works without it.
        from . import commands

        function: Callable[[argparse.Namespace], int] = getattr(commands, name)
        return function(options)

    return command


def _add_targets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("targets, one or more")
    group.add_argument("--endpoint", action="append", default=[], metavar="ID", help="RunPod endpoint")
    group.add_argument("--server", action="append", default=[], metavar="URL", help="e.g. http://127.0.0.1:8188")
    group.add_argument(
        "--poll", type=_positive, default=1.0, metavar="S", help="shortest time between looks at a job (%(default)g s)"
    )


def _add_input(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input, for every job that has no other")
    group.add_argument("--prompt", metavar="TEXT", help="the input field prompt")
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any input field, e.g. num_steps=4"
    )
    group.add_argument("--execution-timeout", type=_positive, metavar="S", help="execution policy: time of running")
    group.add_argument("--ttl", type=_positive, metavar="S", help="execution policy: time from submission to the end")
    group.add_argument("--low-priority", action="store_true", help="execution policy of RunPod: starts no workers")


def _add_capacity(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Simulate what a RunPod endpoint would serve and cost. The assumptions are in worker/client/capacity.py and "
        "docs/fleet.md; nothing is measured or asked for."
    )

    def add(option: str, kind: Callable[[str], Any], name: str, text: str, required: bool = False) -> None:
        default = None if required else getattr(Scenario, name)
        shown = f"{text} ({default:g})" if isinstance(default, (int, float)) else text
        parser.add_argument(option, type=kind, dest=name, default=default, required=required, metavar="N", help=shown)

    add("--seconds-per-image", _positive, "seconds_per_image", "measured on a warm worker", required=True)
    add("--images-per-hour", _not_negative, "images_per_hour", "mean load", required=True)
    add("--images-per-job", _count, "images_per_job", "batch_size")
    add("--cold-start", _not_negative, "cold_start_s", "seconds from nothing to the first job")
    add("--flashboot-share", _share, "fast_start_share", "share of starts that FlashBoot makes fast, 0 to 1")
    add("--flashboot-start", _not_negative, "fast_start_s", "seconds of those")
    add("--workers-min", _count_or_0, "workers_min", "always on")
    add("--workers-max", _count, "workers_max", "in all")
    add("--idle-timeout", _not_negative, "idle_timeout_s", "seconds")
    parser.add_argument(
        "--scaler", choices=("queue-delay", "request-count"), default=Scenario.scaler, help="(%(default)s)"
    )
    add("--scaler-value", _not_negative, "scaler_value", "seconds in the queue, or requests per worker")
    add("--price-per-second", _not_negative, "price_per_s", "of a worker")
    add("--price-per-second-active", _not_negative, "price_per_s_active", "of an always-on worker, if another")
    add("--hours", _positive, "hours", "simulated")
    add("--seed", int, "seed", "of the random numbers")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON")


def _capacity(options: argparse.Namespace) -> int:
    import dataclasses
    import json

    scenario = Scenario(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Scenario)})
    if scenario.workers_min > scenario.workers_max:
        raise UsageError("--workers-min is over --workers-max", "Raise --workers-max")
    if scenario.scaler == "request-count" and scenario.scaler_value < 1:
        raise UsageError("--scaler-value is below 1 request per worker", "Give 1 or more")
    outcome = simulate(scenario)
    text = json.dumps(dataclasses.asdict(outcome), indent=2) if options.json else as_text(scenario, outcome)
    sys.stdout.write(text + "\n")
    return 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(message + "\n")
    return code


def _number(text: str, low: float, high: float = float("inf")) -> float:
    value = float(text)
    if not low <= value <= high or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is out of range")
    return value


def _not_negative(text: str) -> float:
    return _number(text, 0.0)


def _positive(text: str) -> float:
    return _number(text, 1e-6)


def _share(text: str) -> float:
    return _number(text, 0.0, 1.0)


def _count(text: str) -> int:
    return int(_number(str(int(text)), 1, 100_000))


def _count_or_0(text: str) -> int:
    return int(_number(str(int(text)), 0, 100_000))
