"""The retry loop on ComfyUI's own executor, in every cache mode."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import folder_paths
import pytest
import torch

from flux_face.nodes.retry.strip import UI_KEY
from flux_face.tests.comfy_server import ComfyError, Graph
from flux_face.tests.retry.graphs import custom_sampler_graph, ksampler_graph, node
from flux_face.tests.retry.runner import CACHE_MODES, Runner

ONE_BAD = [[1.0, 1.0, 0.2, 1.0], [0.9]]
SEED = 7


@pytest.fixture(params=CACHE_MODES)
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    with Runner.start(request.param) as started:
        yield started


@pytest.fixture
def classic() -> Iterator[Runner]:
    with Runner.start("classic") as started:
        yield started


def new_run() -> str:
    """A name under which the verdict script starts from its first entry."""
    return uuid.uuid4().hex


@pytest.mark.parametrize("build", [ksampler_graph, custom_sampler_graph])
def test_one_bad_of_four_samples_five_images(runner: Runner, build: Callable[..., Graph]) -> None:
    outcome = runner.run(build(ONE_BAD, run=new_run()))
    assert outcome.work["sampled"] == 5
    assert outcome.work["judged"] == 5
    assert outcome.report["images_sampled"] == 5
    assert outcome.scores == [1.0, 1.0, 0.9, 1.0]


@pytest.mark.parametrize("mode", ["classic", "ram", "lru"])
def test_running_again_samples_nothing(mode: str) -> None:
    graph = ksampler_graph(ONE_BAD, run=new_run())
    with Runner.start(mode) as runner:
        first = runner.run(graph)
        again = runner.run(graph)
    assert first.work["sampled"] == 5
    assert not again.work
    assert torch.equal(first.images, again.images)
    assert first.report == again.report


def test_models_and_texts_are_kept_between_attempts(classic: Runner) -> None:
    never = [[0.0, 0.0], [0.1, 0.1], [0.2, 0.2]]
    outcome = classic.run(ksampler_graph(never, run=new_run(), batch=2))
    assert outcome.work["loaded"] == 1
    assert outcome.work["encoded"] == 1
    assert outcome.work["sampled"] == 6


def test_without_a_cache_only_loaders_run_again() -> None:
    never = [[0.0, 0.0], [0.1, 0.1], [0.2, 0.2]]
    with Runner.start("none") as runner:
        outcome = runner.run(ksampler_graph(never, run=new_run(), batch=2))
    assert outcome.work["sampled"] == 6
    assert outcome.work["decoded"] == 6
    assert outcome.work["loaded"] == 3


def test_order_is_kept_and_passed_images_are_untouched(runner: Runner) -> None:
    first = runner.run(ksampler_graph([], run=new_run()))
    outcome = runner.run(ksampler_graph([[0.1, 0.9, 0.1, 0.9], [0.3, 0.9], [0.8]], run=new_run()))
    assert outcome.scores == [0.8, 0.9, 0.9, 0.9]
    for item in (1, 3):
        assert torch.equal(outcome.images[item], first.images[item])
    for item in (0, 2):
        assert not torch.allclose(outcome.images[item], first.images[item], atol=0.1)
    assert [item["attempt"] for item in outcome.report["items"]] == [3, 1, 2, 1]


@pytest.mark.parametrize("build", [ksampler_graph, custom_sampler_graph])
def test_each_item_keeps_its_noise_slot(runner: Runner, build: Callable[..., Graph]) -> None:
    whole = {k: runner.run(build([], run=new_run(), seed=SEED + k)) for k in range(3)}
    outcome = runner.run(build([[1.0, 0.1, 1.0, 0.1], [0.2, 1.0], [1.0]], run=new_run(), seed=SEED))
    for item, attempt in enumerate([0, 2, 0, 1]):
        assert torch.allclose(outcome.images[item], whole[attempt].images[item], atol=1e-4)
        assert outcome.report["items"][item]["seed"] == SEED + attempt
        assert outcome.report["items"][item]["batch_index"] == item
    assert not torch.allclose(whole[0].images, whole[1].images, atol=0.1)


def test_slots_that_the_latents_bring_are_kept(classic: Runner) -> None:
    """The batch is items 1 to 3 of a larger one."""
    graph = ksampler_graph([[1.0, 1.0, 0.1], [1.0]], run=new_run())
    graph["cut"] = node("LatentFromBatch", samples=["latent", 0], batch_index=1, length=3)
    graph["sampler"]["inputs"]["latent_image"] = ["cut", 0]
    outcome = classic.run(graph)
    whole = classic.run(ksampler_graph([], run=new_run(), seed=SEED + 1))
    assert [item["batch_index"] for item in outcome.report["items"]] == [1, 2, 3]
    assert torch.allclose(outcome.images[2], whole.images[3], atol=1e-4)


def test_generated_images_stay_in_step(runner: Runner) -> None:
    graph = ksampler_graph(ONE_BAD, run=new_run())
    graph["after"] = node("ImageInvert", image=["decode", 0])
    graph["verdicts"]["inputs"]["images"] = ["after", 0]
    graph["retry"]["inputs"]["images"] = ["after", 0]
    outcome = runner.run(graph)
    assert outcome.generated is not None
    assert torch.allclose(outcome.images, 1.0 - outcome.generated, atol=1e-5)
    assert outcome.work["sampled"] == 5


def test_generated_images_are_optional(classic: Runner) -> None:
    graph = ksampler_graph(ONE_BAD, run=new_run())
    del graph["retry"]["inputs"]["generated"]
    assert classic.run(graph).generated is None


def test_the_best_of_failing_attempts_comes_out_with_its_verdict(runner: Runner) -> None:
    whole = {k: runner.run(ksampler_graph([], run=new_run(), batch=2, seed=SEED + k)) for k in range(3)}
    outcome = runner.run(ksampler_graph([[0.1, 0.4], [0.3, 0.4], [0.2, 0.1]], run=new_run(), batch=2))
    assert outcome.scores == [0.3, 0.4]
    assert torch.allclose(outcome.images[0], whole[1].images[0], atol=1e-4)
    assert torch.allclose(outcome.images[1], whole[0].images[1], atol=1e-4)
    items = outcome.report["items"]
    assert [item["passed"] for item in items] == [False, False]
    assert [item["attempt"] for item in items] == [2, 1]
    assert [[a["score"] for a in item["attempts"]] for item in items] == [[0.1, 0.3, 0.2], [0.4, 0.4, 0.1]]
    assert outcome.report["passed"] == 0


@pytest.mark.parametrize(("max_attempts", "sampled"), [(1, 1), (2, 2), (10, 10)])
def test_attempts_are_bounded(classic: Runner, max_attempts: int, sampled: int) -> None:
    never = [[0.0]] * 20
    outcome = classic.run(ksampler_graph(never, run=new_run(), batch=1, max_attempts=max_attempts))
    assert outcome.work["sampled"] == sampled
    assert outcome.report["attempts"] == max_attempts


def test_a_passing_batch_is_handed_on(runner: Runner) -> None:
    outcome = runner.run(ksampler_graph([], run=new_run()))
    assert outcome.work["sampled"] == 4
    assert outcome.report["attempts"] == 1
    assert outcome.report["passed"] == 4


@pytest.mark.parametrize("mode", ["classic", "ram", "lru"])
def test_more_attempts_build_on_those_made(mode: str) -> None:
    """Raising max_attempts samples the further attempts only: the earlier ones come from the cache."""
    graph = ksampler_graph([[1.0, 0.1], [0.2], [0.3], [0.4]], run=new_run(), batch=2, max_attempts=2)
    with Runner.start(mode) as runner:
        assert runner.run(graph).work["sampled"] == 3
        graph["retry"]["inputs"]["max_attempts"] = 3
        assert runner.run(graph).work["sampled"] == 1


def test_the_node_shows_which_attempt_runs(classic: Runner) -> None:
    outcome = classic.run(ksampler_graph([[1.0, 0.1], [0.2], [0.9]], run=new_run(), batch=2))
    assert [node_id for node_id, _ in outcome.shown] == ["retry"] * 3
    shown = [document for _, document in outcome.shown]
    assert [(document["attempt"], document["running"]) for document in shown] == [(1, True), (2, True), (3, False)]
    assert [[item["kept"] for item in document["items"]] for document in shown] == [[0, 0], [0, 1], [0, 2]]
    for shown_item, item in zip(shown[-1]["items"], outcome.report["items"], strict=True):
        assert [
            (attempt["seed"], attempt["passed"], attempt["score"], [reason["code"] for reason in attempt["reasons"]])
            for attempt in shown_item["attempts"]
        ] == [
            (
                str(attempt["seed"]),
                attempt["passed"],
                attempt["score"],
                [reason["code"] for reason in attempt["reasons"]],
            )
            for attempt in item["attempts"]
        ]


@pytest.mark.parametrize("mode", ["classic", "ram", "lru"])
def test_history_and_cached_runs_show_the_finished_loop(mode: str) -> None:
    graph = ksampler_graph(ONE_BAD, run=new_run())
    with Runner.start(mode) as runner:
        first = runner.run(graph)
        again = runner.run(graph)
    assert not again.work
    assert [("retry", first.shown[-1][1])] == again.shown
    assert first.history["retry"][UI_KEY] == again.history["retry"][UI_KEY] == [again.shown[0][1]]


def test_thumbnails_are_written_where_the_graph_asks_for_them(
    classic: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    graph = ksampler_graph(ONE_BAD, run=new_run())
    classic.run(graph)
    assert list(tmp_path.iterdir()) == []
    graph["retry"]["inputs"]["preview"] = True
    _, document = classic.run(graph).shown[-1]
    pictures = [attempt["picture"]["filename"] for item in document["items"] for attempt in item["attempts"]]
    assert len(pictures) == 5
    assert sorted(pictures) == sorted(path.name for path in tmp_path.iterdir())


def test_works_inside_a_subgraph(runner: Runner) -> None:
    """The front end flattens subgraphs into ids such as 12:5."""
    flat = ksampler_graph(ONE_BAD, run=new_run())
    graph = json.loads(json.dumps(flat), object_hook=_inside_subgraph)
    outcome = runner.run(graph, sink="12:sink")
    assert outcome.work["sampled"] == 5
    assert outcome.shown[0][0] == outcome.shown[0][1]["node"] == "12:retry"


def _inside_subgraph(level: dict[str, object]) -> dict[str, object]:
    if "retry" in level:
        return {f"12:{node_id}": value for node_id, value in level.items()}
    return {name: [f"12:{value[0]}", value[1]] if isinstance(value, list) else value for name, value in level.items()}


def test_a_second_sampler_repeats_its_part(runner: Runner) -> None:
    """Two stages: the second sampler starts from the first one's latents, so only the first selects."""
    graph = ksampler_graph([[1.0, 0.1], [1.0]], run=new_run(), batch=2)
    graph["refine"] = {
        "class_type": "KSampler",
        "inputs": {**graph["sampler"]["inputs"], "latent_image": ["sampler", 0], "denoise": 0.5, "seed": 100},
    }
    graph["decode"]["inputs"]["samples"] = ["refine", 0]
    outcome = runner.run(graph)
    assert outcome.work["sampled"] == 2 * 3
    whole = dict(graph)
    whole["sampler"] = {"class_type": "KSampler", "inputs": {**graph["sampler"]["inputs"], "seed": SEED + 1}}
    whole["refine"] = {"class_type": "KSampler", "inputs": {**graph["refine"]["inputs"], "seed": 101}}
    assert torch.allclose(outcome.images[1], runner.run(whole).images[1], atol=1e-4)


def test_two_retry_nodes_in_a_row(classic: Runner) -> None:
    """The first repeats its sampler; the second repeats the first with all it holds."""
    graph = ksampler_graph([[1.0, 0.1], [1.0]], run=new_run(), batch=2)
    graph["verdicts2"] = node("ProbeVerdicts", images=["retry", 0], script="[[0.1, 1.0], [1.0]]", run=new_run(),
                              seconds=0.0)  # fmt: skip
    graph["retry2"] = node("FluxFaceRetry", images=["retry", 0], verdicts=["verdicts2", 0], max_attempts=2)
    graph["sink"] = node("ProbeSink", images=["retry2", 0], verdicts=["retry2", 1], report=["retry2", 3])
    outcome = classic.run(graph)
    assert outcome.scores == [1.0, 1.0]
    assert outcome.work["sampled"] == 2 + 1 + 1


def test_a_seed_may_come_from_a_primitive(runner: Runner) -> None:
    graph = ksampler_graph(ONE_BAD, run=new_run())
    graph["seed"] = node("PrimitiveInt", value=40)
    graph["sampler"]["inputs"]["seed"] = ["seed", 0]
    assert [item["seed"] for item in runner.run(graph).report["items"]] == [40, 40, 41, 40]


def test_the_largest_seed_wraps(classic: Runner) -> None:
    graph = ksampler_graph([[0.1], [1.0]], run=new_run(), batch=1, seed=0xFFFFFFFFFFFFFFFF)
    assert classic.run(graph).report["items"][0]["seed"] == 0


def test_images_without_a_sampler_are_refused(classic: Runner) -> None:
    graph = ksampler_graph(ONE_BAD, run=new_run())
    graph["decode"]["inputs"]["samples"] = ["latent", 0]
    with pytest.raises(ComfyError, match=r"no sampler feeds them.*KSampler"):
        classic.run(graph)


def test_more_images_than_latents_are_refused(classic: Runner) -> None:
    graph = ksampler_graph([[0.1] * 8], run=new_run())
    graph["decode"]["inputs"]["copies"] = 2
    with pytest.raises(ComfyError, match="8 images came from 4 latents"):
        classic.run(graph)


def test_attempts_of_another_size_are_refused(classic: Runner) -> None:
    graph = ksampler_graph(ONE_BAD, run=new_run())
    graph["decode"]["inputs"]["grow_below"] = 4
    with pytest.raises(ComfyError, match="an attempt made 16x16 images, the first made 8x8"):
        classic.run(graph)


def test_verdicts_of_other_images_are_refused(classic: Runner) -> None:
    with pytest.raises(ComfyError, match="3 came for 4 sampled images"):
        classic.run(ksampler_graph([[0.1] * 3], run=new_run()))


def test_an_error_in_an_attempt_leaves_the_executor_usable(classic: Runner) -> None:
    graph = ksampler_graph([[0.1, 1.0], [0.1] * 9], run=new_run(), batch=2)
    with pytest.raises(ComfyError, match="9 came for 1"):
        classic.run(graph)
    assert classic.run(ksampler_graph(ONE_BAD, run=new_run())).scores == [1.0, 1.0, 0.9, 1.0]


def test_the_swap_report_is_of_the_images_that_come_out(runner: Runner) -> None:
    graph = ksampler_graph([[0.1, 0.9, 0.1, 0.9], [0.3, 0.9], [0.05]], run=new_run())
    graph["swap"] = node("ProbeSwapReport", images=["decode", 0])
    graph["retry"]["inputs"]["swap_report"] = ["swap", 0]
    graph["sink"]["inputs"]["swap_report"] = ["retry", 4]
    outcome = runner.run(graph)
    assert outcome.scores == [0.3, 0.9, 0.9, 0.9]
    assert outcome.swap is not None
    assert outcome.swap["engine"] == "probe"
    pixels = [item["pixel"] for item in outcome.swap["images"]]
    assert pixels == outcome.images[:, 0, 0, 0].tolist()
    assert len(set(pixels)) == 4
