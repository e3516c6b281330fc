"""What a retry loop knows between attempts, and the merging of each attempt's results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import UserInputError
from ..skin.verdict import Verdict


@dataclass(frozen=True)
class Attempt:
    """One try at one item: its number from 1, its seed, and what QA said."""

    number: int
    seed: int
    verdict: Verdict


@dataclass(frozen=True)
class SwapReport:
    """A swap node's report: what it says of each image, and the rest (engine, provider)."""

    common: dict[str, Any]
    images: tuple[Any, ...]

    def to_json(self) -> str:
        return json.dumps({**self.common, "images": list(self.images)}, allow_nan=False)


def read_swap_report(text: str | None) -> SwapReport | None:
    """A swap node's report from its JSON.

    Raises:
        UserInputError: it is no such report.
    """
    if text is None:
        return None
    try:
        report = json.loads(text)
        images = tuple(report.pop("images"))
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserInputError(
            "retry_swap_report", "swap_report", "it is no report of Swap Face", "Connect the report of Swap Face"
        ) from error
    return SwapReport(report, images)


@dataclass(frozen=True, eq=False)
class RetryState:
    """All items of a batch after some attempts.

    Attributes:
        images: best image of each item, ``[B,H,W,C]``.
        generated: the same before the swap; None where that was not connected.
        swaps: the swap report, of each item that of the kept image; None where that was not connected.
        attempts: every attempt at each item, in order.
        chosen: index into an item's attempts of the one whose image is kept.
        slots: the noise slot (batch_index) of each item.
        max_attempts: the most attempts an item may have.
    """

    images: torch.Tensor
    generated: torch.Tensor | None
    swaps: SwapReport | None
    attempts: tuple[tuple[Attempt, ...], ...]
    chosen: tuple[int, ...]
    slots: tuple[int, ...]
    max_attempts: int

    @property
    def attempt(self) -> int:
        """Number of the latest attempt."""
        return max(len(attempts) for attempts in self.attempts)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdict of each kept image."""
        return tuple(attempts[i].verdict for attempts, i in zip(self.attempts, self.chosen, strict=True))

    @property
    def failed(self) -> tuple[int, ...]:
        """Items without a passing image, in order."""
        return tuple(i for i, verdict in enumerate(self.verdicts) if not verdict.passed)

    @property
    def images_sampled(self) -> int:
        """How many images all attempts have sampled."""
        return sum(len(attempts) for attempts in self.attempts)


def first_state(
    images: torch.Tensor,
    verdicts: Sequence[Verdict],
    generated: torch.Tensor | None,
    seed: int,
    max_attempts: int,
    swaps: SwapReport | None = None,
) -> RetryState:
    """The state after attempt 1, which the user's own graph has made.

    Raises:
        UserInputError: the counts differ, or there is no image.
    """
    _check_results(images, verdicts, generated, swaps, len(images))
    if len(images) == 0:
        raise UserInputError("empty_batch", "images", "there are no images", "Connect at least one image")
    return RetryState(
        images,
        generated,
        swaps,
        tuple((Attempt(1, seed, verdict),) for verdict in verdicts),
        (0,) * len(images),
        tuple(range(len(images))),
        max_attempts,
    )


def merge(
    state: RetryState,
    images: torch.Tensor,
    verdicts: Sequence[Verdict],
    generated: torch.Tensor | None,
    seed: int,
    slots: Sequence[int],
    swaps: SwapReport | None = None,
) -> RetryState:
    """The state after another attempt at the failed items.

    A passing image replaces the kept one; of failing images the one with the higher score is kept, the earlier of
    equals.

    Args:
        images, verdicts, generated, swaps: results of the failed items, in order.
        seed: the seed they were sampled with.
        slots: noise slot of every item of the batch.

    Raises:
        UserInputError: the number or the size of the images changed on the way.
    """
    failed = state.failed
    _check_results(images, verdicts, generated, swaps, len(failed))
    attempts, chosen = list(state.attempts), list(state.chosen)
    taken: list[tuple[int, int]] = []
    for position, item in enumerate(failed):
        best = state.verdicts[item]
        attempts[item] = (*attempts[item], Attempt(state.attempt + 1, seed, verdicts[position]))
        if verdicts[position].passed or verdicts[position].score > best.score:
            chosen[item] = len(attempts[item]) - 1
            taken.append((item, position))
    return RetryState(
        _replaced(state.images, images, taken, "images"),
        None
        if state.generated is None or generated is None
        else _replaced(state.generated, generated, taken, "generated"),
        None if state.swaps is None or swaps is None else _reported(state.swaps, swaps, taken),
        tuple(attempts),
        tuple(chosen),
        tuple(slots),
        state.max_attempts,
    )


def report(state: RetryState) -> dict[str, Any]:
    """The loop's report, ready for JSON. Items and noise slots count from 0, attempts from 1."""
    return {
        "max_attempts": state.max_attempts,
        "attempts": state.attempt,
        "images_sampled": state.images_sampled,
        "passed": len(state.images) - len(state.failed),
        "items": [
            {
                "item": item,
                "passed": attempts[chosen].verdict.passed,
                "score": round(attempts[chosen].verdict.score, 4),
                "attempt": attempts[chosen].number,
                "seed": attempts[chosen].seed,
                "batch_index": slot,
                "attempts": [_attempt_report(attempt) for attempt in attempts],
            }
            for item, (attempts, chosen, slot) in enumerate(zip(state.attempts, state.chosen, state.slots, strict=True))
        ],
    }


def _attempt_report(attempt: Attempt) -> dict[str, Any]:
    return {"attempt": attempt.number, "seed": attempt.seed, **attempt.verdict.to_json()}


def _check_results(
    images: torch.Tensor,
    verdicts: Sequence[Verdict],
    generated: torch.Tensor | None,
    swaps: SwapReport | None,
    count: int,
) -> None:
    for field, found in (
        ("images", len(images)),
        ("verdicts", len(verdicts)),
        ("generated", count if generated is None else len(generated)),
        ("swap_report", count if swaps is None else len(swaps.images)),
    ):
        if found != count:
            raise UserInputError(
                "retry_count",
                field,
                f"{found} came for {count} sampled images",
                "Between sampler and retry node each latent must become one image, in order",
            )


def _replaced(kept: torch.Tensor, new: torch.Tensor, taken: Sequence[tuple[int, int]], field: str) -> torch.Tensor:
    if kept.shape[1:] != new.shape[1:]:
        raise UserInputError(
            "retry_size",
            field,
            f"an attempt made {new.shape[2]}x{new.shape[1]} images, the first made {kept.shape[2]}x{kept.shape[1]}",
            "Between sampler and retry node every image must come out in the same size",
        )
    merged = kept.clone()
    for item, position in taken:
        merged[item] = new[position].to(merged)
    return merged


def _reported(kept: SwapReport, new: SwapReport, taken: Sequence[tuple[int, int]]) -> SwapReport:
    images = list(kept.images)
    for item, position in taken:
        images[item] = new.images[position]
    return SwapReport(kept.common, tuple(images))
