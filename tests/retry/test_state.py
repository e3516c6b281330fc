"""Merging the results of attempts."""

from __future__ import annotations

import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.retry.state import RetryState, first_state, merge, read_swap_report, report
from flux_face.nodes.skin.verdict import Reason, Verdict


def verdicts(*scores: float) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(score >= 0.5, score, () if score >= 0.5 else (Reason("cast", "cast: blue"),)) for score in scores
    )


def pictures(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 2, 2, 3)


def start(*scores: float) -> RetryState:
    return first_state(pictures(*range(len(scores))), verdicts(*scores), None, 10, 3)


def test_results_go_where_they_belong() -> None:
    merged = merge(start(0.9, 0.1, 0.9, 0.2), pictures(11, 13), verdicts(0.8, 0.7), None, 11, [0, 1, 2, 3])
    assert merged.images[:, 0, 0, 0].tolist() == [0.0, 11.0, 2.0, 13.0]
    assert merged.failed == ()


def test_merging_leaves_the_input_images_alone() -> None:
    state = start(0.1)
    merge(state, pictures(5), verdicts(0.9), None, 11, [0])
    assert state.images[0, 0, 0, 0] == 0.0


def test_a_pass_beats_a_failure_of_any_score() -> None:
    """A limit on the score is the user's: QA may fail what scores more than another image that passed."""
    state = first_state(pictures(1), (Verdict(False, 0.8),), None, 10, 3)
    merged = merge(state, pictures(2), (Verdict(True, 0.6),), None, 11, [0])
    assert merged.chosen == (1,)
    assert merged.failed == ()


def test_of_equal_failures_the_earlier_stays() -> None:
    assert merge(start(0.3), pictures(9), verdicts(0.3), None, 11, [0]).chosen == (0,)


def test_the_report_names_every_attempt() -> None:
    state = merge(start(0.9, 0.1), pictures(5), verdicts(0.7), None, 11, [4, 7])
    found = report(state)
    assert (found["attempts"], found["images_sampled"], found["passed"]) == (2, 3, 2)
    second = found["items"][1]
    assert (second["attempt"], second["seed"], second["batch_index"], second["passed"]) == (2, 11, 7, True)
    assert [(a["attempt"], a["seed"], a["passed"]) for a in second["attempts"]] == [(1, 10, False), (2, 11, True)]
    assert second["attempts"][0]["reasons"][0]["code"] == "cast"


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(UserInputError, match="there are no images"):
        first_state(torch.zeros(0, 2, 2, 3), (), None, 0, 3)


def test_generated_images_must_match() -> None:
    with pytest.raises(UserInputError, match="generated: 1 came for 2"):
        first_state(pictures(1, 2), verdicts(0.9, 0.9), pictures(1), 0, 3)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"images": 3}'])
def test_what_is_no_swap_report_is_refused(text: str) -> None:
    with pytest.raises(UserInputError) as caught:
        read_swap_report(text)
    assert caught.value.code == "retry_swap_report"


def test_a_swap_report_of_other_images_is_refused() -> None:
    with pytest.raises(UserInputError, match="swap_report"):
        first_state(pictures(1, 2), verdicts(0.9, 0.9), None, 10, 3, read_swap_report('{"images": [{}]}'))
