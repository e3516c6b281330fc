"""Production mode: real SDK, real ComfyUI, and a stand-in for RunPod's endpoints.

One worker serves all tests, in order: the hard ones come last, and the very last ends it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import signal
import time
from pathlib import Path

import psutil
from PIL import Image

from flux_face.tests.worker.conftest import Production
from flux_face.tests.worker.process import EXIT_THEN_KILL, FAIL, HANG, KILL_ONCE, NOISE, SLOW, trouble, wait_gone


def _picture(entry: dict[str, str]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(entry["data"])))


def test_a_job_returns_its_images(production: Production) -> None:
    job = production.platform.submit(trouble(width=128, height=64, batch_size=2))
    result = production.platform.finish(job)
    assert "error" not in result
    images = result["output"]["images"]
    assert [_picture(image).size for image in images] == [(128, 64)] * 2
    assert {image["type"] for image in images} == {"base64"}
    assert result["output"]["profile"] == "trouble"


def test_a_mistake_names_field_and_remedy(production: Production) -> None:
    result = production.run(number_of_steps=4)
    assert str(result["error"]).startswith("[field_unknown] number_of_steps: ")
    assert "num_steps" in str(result["error"])
    assert "Traceback" not in str(result)


def test_an_input_that_is_no_object_is_refused(production: Production) -> None:
    result = production.platform.finish(production.platform.submit("a portrait"))
    assert result["error"].startswith("[field_type] input: ")


def test_addresses_on_the_worker_are_refused_for_nobody_could_reach_them(production: Production) -> None:
    assert str(production.run(images_as="url")["error"]).startswith("[images_as_unreachable] images_as: ")
    output = production.run(images_as="none")["output"]
    assert isinstance(output, dict)
    assert "images" not in output


def test_progress_is_reported_and_never_after_the_result(production: Production) -> None:
    job = production.platform.submit(trouble(SLOW + 25))
    production.platform.finish(job)
    time.sleep(1)  # for an update that would come too late
    running = [update for update, _ in job.progress if update["stage"] == "running"]
    assert {update["class_type"] for update in running} == {"FluxFaceTrouble"}
    steps = [update["value"] for update in running]
    assert steps
    assert steps == sorted(steps)
    assert len(job.progress) <= 5  # about 2.5 s of work, one a second
    assert not any(late for _, late in job.progress)


def test_a_waiting_jobs_place_is_reported(production: Production) -> None:
    first, second = (production.platform.submit(trouble(SLOW + 25)) for _ in range(2))
    for job in (first, second):
        production.platform.finish(job)
    places = [update.get("position") for update, _ in second.progress if update["stage"] == "queued"]
    assert places
    assert set(places) == {1}


def test_a_jobs_own_policy_ends_it_earlier(production: Production) -> None:
    job = production.platform.submit(trouble(SLOW + 100), policy={"executionTimeout": 1500, "ttl": 86_400_000})
    error = production.platform.finish(job)["error"]
    assert error.startswith("[job_timeout] the job took longer than 1.5 s")
    production.platform.wait(lambda: production.active_jobs() == 0, 5, "end of the graph")


def test_a_cancelled_job_stops_its_graph(production: Production) -> None:
    job = production.platform.submit(trouble(SLOW + 150))
    production.wait_running(job)
    production.platform.stop(job)
    production.platform.wait(lambda: production.active_jobs() == 0, 5, "end of the graph")
    assert "images" in str(production.run())
    assert job.results == []


def test_two_jobs_are_held_and_a_waiting_one_can_be_cancelled(production: Production) -> None:
    running, waiting = (production.platform.submit(trouble(SLOW + 40)) for _ in range(2))
    production.wait_running(running)
    production.platform.wait(lambda: production.active_jobs() == 2, 10, "second job in ComfyUI's queue")
    production.platform.stop(waiting)
    assert "output" in production.platform.finish(running)
    production.platform.wait(lambda: production.active_jobs() == 0, 5, "empty queue")
    assert waiting.results == []


def test_a_job_delivered_again_under_its_id_is_run_again(production: Production) -> None:
    """As the platform does after a retry."""
    failed = production.platform.submit(trouble(FAIL), "again-u1")
    assert str(production.platform.finish(failed)["error"]).startswith("[")
    again = production.platform.submit(trouble(), "again-u1")
    assert "output" in production.platform.finish(again)


def test_a_result_over_the_limit_is_reencoded(production: Production) -> None:
    result = production.run(NOISE + 1, width=2048, height=1280)
    output = result["output"]
    assert isinstance(output, dict)
    assert output["reencoded"]["format"] == "webp"
    picture = _picture(output["images"][0])
    assert (picture.format, picture.size) == ("WEBP", (2048, 1280))
    assert "trainedAlgorithmicMedia" in str(picture.info["xmp"])


def test_a_platform_that_stumbles_gets_the_result_again(production: Production) -> None:
    production.platform.refuse_results = 2
    assert "output" in production.run()


def test_pings_carry_the_running_job(production: Production) -> None:
    job = production.platform.submit(trouble(SLOW + 25))
    production.platform.finish(job)
    assert any(job.id in ping.get("job_id", "") for ping in production.platform.pings)


def test_a_job_survives_the_death_of_comfyui(production: Production) -> None:
    result = production.run(KILL_ONCE + 1, timeout_s=180)
    assert "error" not in result
    output = result["output"]
    assert isinstance(output, dict)
    assert output["submissions"] == 2
    assert "SIGKILL" in production.worker.log()


def test_a_job_that_ends_comfyui_twice_fails_and_the_one_behind_it_does_not(production: Production) -> None:
    # First the prompt worker thread, which ComfyUI itself does not notice, then the process.
    killer = production.platform.submit(trouble(EXIT_THEN_KILL + 1))
    production.platform.wait(lambda: production.active_jobs() == 1, 30, "start of the first")
    behind = production.platform.submit(trouble())
    production.platform.wait(lambda: production.active_jobs() == 2, 30, "second job in ComfyUI's queue")
    assert production.platform.finish(killer, 240)["error"].startswith("[comfyui_lost] ")
    assert "worker thread" in production.worker.log()
    assert production.platform.finish(behind, 240)["output"]["submissions"] > 1


def test_a_job_over_its_time_is_cancelled_and_a_hung_comfyui_replaced(production: Production) -> None:
    processes = len(production.worker.comfy_pids())
    result = production.run(HANG + 900, timeout_s=120)
    assert str(result["error"]).startswith("[job_timeout] ")
    production.platform.wait(lambda: len(production.worker.comfy_pids()) > processes, 60, "restart")


def test_sigterm_while_comfyui_boots_leaves_nothing(production: Production) -> None:
    worker = psutil.Process(production.worker.process.pid)
    children = worker.children(recursive=True)
    data_dirs = set()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):  # ComfyUI has children of its own that have ended
            if "main.py" in str(child.cmdline()):
                data_dirs.add(Path(child.environ()["FLUX_FACE_DATA_DIR"]))
    worker.send_signal(signal.SIGTERM)
    assert production.worker.process.wait(20) == 0
    for pid in (*production.worker.comfy_pids(), *(child.pid for child in children)):
        wait_gone(pid)
    assert data_dirs
    assert not any(folder.exists() for folder in data_dirs)
