"""Whole batches by the real client, against a stand-in of RunPod's endpoints."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flux_face.tests.comfy_server import free_port
from flux_face.tests.worker.client.process import QUICK, ROOT, check_all_done, make_table, png, report, run, start
from flux_face.tests.worker.client.standin import Endpoint, Knobs, RemoteJob, Trouble


def test_a_folder_of_photos(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, name in enumerate(["b.png", "a b.PNG", "é=1.jpg"]):
        (photos / name).write_bytes(png(number))
    (photos / "notes.txt").write_text("no photo")
    with Endpoint() as endpoint:
        arguments = ["batch", photos, "--out", tmp_path / "out", "--endpoint", "abc", "--prompt", "x", *QUICK]
        _, told = run([*arguments, "--set", "num_steps=4", "--ttl", "3600"], endpoint)
    assert "3 done, 0 failed" in told
    rows = report(tmp_path / "out")
    assert [row["item"] for row in rows] == ["a b.PNG", "b.png", "é=1.jpg"]
    assert [row["files"] for row in rows] == [["00001-a_b_0.png"], ["00002-b_0.png"], ["00003-_1_0.png"]]
    assert (tmp_path / "out" / "00002-b_0.png").read_bytes() == png(0)
    assert rows[0]["seeds"] == [7]
    assert rows[0]["qa_passed"] == [True]
    assert (rows[0]["delay_seconds"], rows[0]["execution_seconds"]) == (0.12, 3.4)
    assert rows[0]["target"] == "endpoint:abc"
    for job in endpoint.jobs.values():
        assert {key: job.input[key] for key in ("prompt", "num_steps")} == {"prompt": "x", "num_steps": 4}
        assert job.policy == {"ttl": 3_600_000}
    table = list(csv.DictReader((tmp_path / "out" / "report.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["state"] for row in table] == ["done"] * 3
    assert table[0]["files"] == '["00001-a_b_0.png"]'


def test_a_table_of_any_input_fields(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "1.png").write_bytes(png(1))
    table = tmp_path / "items.csv"
    table.write_text(
        "user_photo,prompt,seed,include_generated,strength\n"
        'p/1.png,"12, a cat",18446744073709551615,true,0.5\n'
        "p/1.png,,,,\n",
        encoding="utf-8-sig",
    )
    with Endpoint() as endpoint:
        arguments = ["batch", table, "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        run([*arguments, "--prompt", "7", "--set", "num_steps=4", "--in-flight", "1"], endpoint)
    first, second = (job.input for job in endpoint.jobs.values())
    assert first.pop("user_photo") == second.pop("user_photo")
    assert first == {
        "prompt": "12, a cat",
        "seed": 2**64 - 1,
        "include_generated": True,
        "strength": 0.5,
        "num_steps": 4,
    }
    assert second == {"prompt": "7", "num_steps": 4}


def test_every_trouble_of_a_network(tmp_path: Path) -> None:
    trouble = Trouble(busy=0.1, broken=0.08, dropped=0.08, unanswered=0.1, lost=0.02)
    with Endpoint(Knobs(looks=(1, 8), trouble=trouble, retry_after="0")) as endpoint:
        table = make_table(tmp_path / "in", 80)
        arguments = ["batch", table, "--out", tmp_path / "out", "--server", endpoint.server_url, *QUICK]
        run([*arguments, "--in-flight", "16", "--resubmissions", "20"])
    check_all_done(tmp_path / "out", 80)
    assert endpoint.most_active <= 16
    rows = report(tmp_path / "out")
    # One job per attempt: an answer that was lost has not made a second one.
    keys = endpoint.keys_by_name()
    assert {f"item {number}": len(set(keys[f"item {number}"])) for number in range(1, 81)} == {
        f"item {number}": row["attempts"] for number, row in enumerate(rows, start=1)
    }
    assert all(len(set(made)) == len(made) for made in keys.values())
    assert sum(row["attempts"] > 1 for row in rows) > 0


def test_the_bar_tells_what_is_going_on(tmp_path: Path) -> None:
    judge = "[photo_no_face] no face"
    with Endpoint(Knobs(judge=lambda job: judge if int(job.name.split()[1]) > 3 else None)) as endpoint:
        arguments = ["batch", make_table(tmp_path / "in", 12), "--out", tmp_path / "out", "--endpoint", "abc"]
        _, told = run([*arguments, "--poll", "0.02"], endpoint, code=1)
    assert "12/12" in told
    assert "3 done, 9 failed, 0 in flight" in told
    assert "images/min" in told
    assert told.count("[photo_no_face] no face") == 5
    assert "What else fails is in the report" in told


def test_in_flight_is_bounded(tmp_path: Path) -> None:
    with Endpoint(Knobs(looks=(2, 5))) as endpoint:
        arguments = ["batch", make_table(tmp_path / "in", 30), "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        run([*arguments, "--in-flight", "3"], endpoint)
    assert endpoint.most_active == 3
    check_all_done(tmp_path / "out", 30)


def test_a_killed_client_resumes_and_sends_nothing_twice(tmp_path: Path) -> None:
    with Endpoint(Knobs(looks=(2, 6), trouble=Trouble(unanswered=0.05))) as endpoint:
        out = tmp_path / "out"
        table = make_table(tmp_path / "in", 100)
        arguments = ["batch", table, "--out", out, "--server", endpoint.server_url, "--in-flight", "8", *QUICK]
        for finished in (15, 40, 70):
            client = start(arguments)
            endpoint.wait(lambda: endpoint.states()["COMPLETED"] >= finished, "progress")  # noqa: B023
            client.kill()
            client.communicate()
            assert client.returncode == -signal.SIGKILL
        made = len(endpoint.accepted)
        assert 70 <= made < 100
        run(arguments)
    check_all_done(out, 100)
    assert len(endpoint.accepted) == 100
    assert all(len(keys) == 1 for keys in endpoint.keys_by_name().values())
    assert {row["attempts"] for row in report(out)} == {1}


def test_what_a_killed_client_was_writing_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.part").touch()
    die_while_writing = (
        "import os, signal, sys; from pathlib import Path; from worker.client.results import write_whole; "
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL); write_whole(Path(sys.argv[1]), b'half a pict')"
    )
    command = [sys.executable, "-c", die_while_writing, str(out / "00001-row-00001_0.png")]
    killed = subprocess.run(command, cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(out.glob(".*"))) == 1
    with Endpoint() as endpoint:
        run(["batch", make_table(tmp_path / "in", 1), "--out", out, "--endpoint", "abc", *QUICK], endpoint)
    check_all_done(out, 1)
    assert (out / "notes.part").exists()


def test_a_resumed_batch_asks_for_what_runs_instead_of_sending_it(tmp_path: Path) -> None:
    with Endpoint(Knobs(held=True, idempotent=False)) as endpoint:
        out = tmp_path / "out"
        arguments = ["batch", make_table(tmp_path / "in", 10), "--out", out, "--endpoint", "abc", *QUICK]
        client = start([*arguments, "--in-flight", "4"], endpoint)
        endpoint.wait(lambda: len(endpoint.accepted) == 4 and endpoint.requests["status"] > 8, "jobs in flight")
        client.kill()
        client.communicate()
        endpoint.knobs.held = False
        _, told = run([*arguments, "--in-flight", "2"], endpoint)
    assert "Resuming: 0 done, 0 failed, 10 left" in told
    check_all_done(out, 10)
    assert len(endpoint.accepted) == 10
    _, told = run(arguments, endpoint)  # nobody listens any more, and nobody needs to
    assert "10 done, 0 failed" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_jobs_running_and_tells_how_to_resume(tmp_path: Path, number: signal.Signals) -> None:
    with Endpoint(Knobs(held=True)) as endpoint:
        out = tmp_path / "out"
        arguments = ["batch", make_table(tmp_path / "in", 10), "--out", out, "--endpoint", "abc", *QUICK]
        client = start(arguments, endpoint)
        endpoint.wait(lambda: len(endpoint.accepted) == 4 and endpoint.requests["status"] > 4, "jobs in flight")
        client.send_signal(number)
        _, told = client.communicate(timeout=60)
        assert client.returncode == 128 + number
        assert "4 jobs go on where they are" in told
        assert "0 done, 0 failed, 10 left" in told
        assert f"To resume: python {Path('worker') / 'client'}" in told.replace(
            f"{Path(__file__).parents[3]}{os.sep}", ""
        )
        assert endpoint.requests["cancel"] == 0
        assert {row["state"] for row in report(out)} == {"running", "waiting"}
        endpoint.knobs.held = False
        run(arguments, endpoint)
    check_all_done(out, 10)
    assert len(endpoint.accepted) == 10


def test_ctrl_c_cancels_the_jobs_if_asked_to(tmp_path: Path) -> None:
    with Endpoint(Knobs(held=True)) as endpoint:
        out = tmp_path / "out"
        arguments = ["batch", make_table(tmp_path / "in", 10), "--out", out, "--endpoint", "abc", *QUICK]
        client = start([*arguments, "--cancel-on-interrupt"], endpoint)
        endpoint.wait(lambda: len(endpoint.accepted) == 4 and endpoint.requests["status"] > 4, "jobs in flight")
        client.send_signal(signal.SIGINT)
        _, told = client.communicate(timeout=60)
        assert client.returncode == 130
        assert "4 jobs sent, 4 cancelled, 0 could not be" in told
        assert endpoint.states() == {"CANCELLED": 4}
        endpoint.knobs.held = False
        run(arguments, endpoint)
    check_all_done(out, 10)
    assert endpoint.states() == {"CANCELLED": 4, "COMPLETED": 10}


def test_failed_jobs_are_retried_unless_the_input_is_at_fault(tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def judge(job: RemoteJob) -> str | None:
        seen[job.name] = seen.get(job.name, 0) + 1
        if job.name == "item 1":
            return "[photo_no_face] user_photo: no face was found. Send another photo"
        if job.name == "item 2":
            return "=cmd()"
        return "[out_of_memory] batch_size: no memory" if job.name == "item 3" and seen[job.name] < 3 else None

    with Endpoint(Knobs(judge=judge)) as endpoint:
        out = tmp_path / "out"
        arguments = ["batch", make_table(tmp_path / "in", 4), "--out", out, "--endpoint", "abc", *QUICK]
        _, told = run([*arguments, "--retries", "2"], endpoint, code=1)
        assert "2 done, 2 failed" in told
        assert seen == {"item 1": 1, "item 2": 3, "item 3": 3, "item 4": 1}
        rows = report(out)
        assert [row["state"] for row in rows] == ["failed", "failed", "done", "done"]
        assert rows[0]["error"] == "[photo_no_face] user_photo: no face was found. Send another photo"
        assert [row["attempts"] for row in rows] == [1, 3, 3, 1]
        table = list(csv.DictReader((out / "report.csv").read_text(encoding="utf-8").splitlines()))
        assert table[1]["error"] == "'=cmd()"
        run(arguments, endpoint, code=1)
        assert seen["item 2"] == 3
        endpoint.knobs.judge = lambda _: None
        run([*arguments, "--retry-failed"], endpoint)
    check_all_done(out, 4)
    keys = endpoint.keys_by_name()
    assert all(len(set(made)) == len(made) for made in keys.values())


def test_lost_jobs_are_resubmitted_a_few_times(tmp_path: Path) -> None:
    with Endpoint(Knobs(trouble=Trouble(lost=1.0))) as endpoint:
        arguments = ["batch", make_table(tmp_path / "in", 2), "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        run([*arguments, "--resubmissions", "3"], endpoint, code=1)
    assert [len(keys) for keys in endpoint.keys_by_name().values()] == [4, 4]
    assert all("[job_lost]" in row["error"] for row in report(tmp_path / "out"))


def test_a_request_over_runpods_limit_is_not_sent(tmp_path: Path) -> None:
    table = make_table(tmp_path / "in", 3)
    (table.parent / "2.png").write_bytes(png(2, padding=8_000_000))
    with Endpoint() as endpoint:
        arguments = ["batch", table, "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        run(arguments, endpoint, code=1)
        assert {job.name for job in endpoint.jobs.values()} == {"item 1", "item 3"}
        rows = report(tmp_path / "out")
        assert [row["state"] for row in rows] == ["done", "failed", "done"]
        assert "[payload_too_large]" in rows[1]["error"]
        assert "RunPod takes 10,000,000. Send a smaller" in rows[1]["error"]
        # A server of ours beside the endpoint takes it.
        with Endpoint() as server:
            run([*arguments, "--server", server.server_url, "--retry-failed"], endpoint)
            assert {job.name for job in server.jobs.values()} == {"item 2"}


def test_jobs_go_to_the_target_with_the_fewest(tmp_path: Path) -> None:
    with Endpoint(Knobs(looks=(20, 20))) as slow, Endpoint(Knobs(looks=(1, 1))) as fast:
        servers = ["--server", slow.server_url, "--server", fast.server_url]
        run(["batch", make_table(tmp_path / "in", 40), "--out", tmp_path / "out", *servers, *QUICK])
        assert len(fast.accepted) > len(slow.accepted) > 0
        assert slow.most_active == 4
    check_all_done(tmp_path / "out", 40)


def test_a_job_whose_answer_was_lost_is_not_made_on_another_server(tmp_path: Path) -> None:
    knobs = [Knobs(trouble=Trouble(unanswered=0.25)) for _ in range(2)]
    with Endpoint(knobs[0], seed=1) as one, Endpoint(knobs[1], seed=2) as other:
        servers = ["--server", one.server_url, "--server", other.server_url]
        run(["batch", make_table(tmp_path / "in", 40), "--out", tmp_path / "out", *servers, *QUICK])
        assert one.requests["run"] + other.requests["run"] > 40
        assert len(one.accepted) + len(other.accepted) == 40
    check_all_done(tmp_path / "out", 40)


def test_a_dead_target_is_rested_and_its_jobs_go_elsewhere(tmp_path: Path) -> None:
    with Endpoint() as alive:
        servers = ["--server", alive.server_url, "--server", f"http://127.0.0.1:{free_port()}"]
        _, told = run(["batch", make_table(tmp_path / "in", 40), "--out", tmp_path / "out", *servers, *QUICK])
    check_all_done(tmp_path / "out", 40)
    assert told.count("It gets no new jobs for a while") == 1
    assert {row["target"] for row in report(tmp_path / "out")} == {f"server:{alive.server_url}"}


@pytest.mark.parametrize("trouble", [Trouble(broken=1.0), Trouble(dropped=1.0)], ids=["500", "dropped"])
def test_a_target_that_always_fails_is_asked_seldom(tmp_path: Path, trouble: Trouble) -> None:
    with Endpoint() as alive, Endpoint(Knobs(trouble=trouble)) as broken:
        servers = ["--server", alive.server_url, "--server", broken.server_url]
        run(["batch", make_table(tmp_path / "in", 60), "--out", tmp_path / "out", *servers, *QUICK])
        assert 3 <= broken.requests["run"] < 30
    check_all_done(tmp_path / "out", 60)


def test_a_target_that_comes_back_gets_its_jobs_followed(tmp_path: Path) -> None:
    with Endpoint(Knobs(looks=(3, 3))) as endpoint:
        arguments = ["batch", make_table(tmp_path / "in", 20), "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        client = start(arguments, endpoint)
        endpoint.wait(lambda: endpoint.requests["status"] > 4, "jobs in flight")
        endpoint.knobs.trouble = Trouble(dropped=1.0)
        before = endpoint.requests["status"]
        endpoint.wait(lambda: endpoint.requests["status"] > before + 12, "status requests in vain")
        endpoint.knobs.trouble = Trouble()
        _, told = client.communicate(timeout=60)
        assert client.returncode == 0, told
    check_all_done(tmp_path / "out", 20)
    assert len(endpoint.accepted) == 20


def test_without_any_answer_the_batch_stops_and_can_be_resumed(tmp_path: Path) -> None:
    arguments = ["batch", make_table(tmp_path / "in", 3), "--out", tmp_path / "out", *QUICK]
    dead = ["--server", f"http://127.0.0.1:{free_port()}", "--give-up-after", "1"]
    _, told = run([*arguments, *dead], code=1)
    assert "No target has answered for" in told
    assert "3 left" in told
    with Endpoint() as endpoint:
        run([*arguments, "--server", endpoint.server_url])
    check_all_done(tmp_path / "out", 3)


def test_a_wrong_key_stops_the_batch_and_fails_no_item(tmp_path: Path) -> None:
    with Endpoint() as endpoint:
        arguments = ["batch", make_table(tmp_path / "in", 10), "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        _, told = run(arguments, endpoint, code=1, env={"RUNPOD_API_KEY": "wrong-key-of-mine"})
        assert "endpoint:abc does not accept our key" in told
        assert "10 left" in told
        assert "wrong-key-of-mine" not in told
        run(arguments, endpoint)
    check_all_done(tmp_path / "out", 10)


def test_jobs_on_a_target_that_is_not_given_any_more(tmp_path: Path) -> None:
    arguments = ["batch", make_table(tmp_path / "in", 6), "--out", tmp_path / "out", *QUICK]
    with Endpoint(Knobs(held=True)) as gone:
        client = start([*arguments, "--server", gone.server_url])
        gone.wait(lambda: len(gone.accepted) == 4 and gone.requests["status"] > 4, "jobs in flight")
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=60)
    with Endpoint() as endpoint:
        _, told = run([*arguments, "--endpoint", "abc"], endpoint, code=2)
        assert f"still on server:{gone.server_url}" in told
        assert endpoint.requests["run"] == 0
        run([*arguments, "--endpoint", "abc", "--forget-missing"], endpoint)
    check_all_done(tmp_path / "out", 6)


def test_another_batch_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    table = make_table(tmp_path / "in", 3)
    with Endpoint() as endpoint:
        arguments = ["batch", table, "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        run(arguments, endpoint)
        _, told = run([*arguments, "--set", "seed=1"], endpoint, code=2)
        assert "its item row-00001 has changed" in told
        table.write_text("\n".join(table.read_text().splitlines()[:-1]))
        _, told = run(arguments, endpoint, code=2)
        assert "its item row-00003 is no longer there" in told
        run(["batch", make_table(tmp_path / "in", 5), *arguments[2:]], endpoint)
    check_all_done(tmp_path / "out", 5)
    assert len(endpoint.accepted) == 5


def test_two_clients_do_not_work_on_one_batch(tmp_path: Path) -> None:
    with Endpoint(Knobs(held=True)) as endpoint:
        arguments = ["batch", make_table(tmp_path / "in", 5), "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        client = start(arguments, endpoint)
        endpoint.wait(lambda: endpoint.requests["status"] > 2, "jobs in flight")
        _, told = run(arguments, endpoint, code=2)
        assert "Is another client working on this batch?" in told
        endpoint.knobs.held = False
        assert client.wait(60) == 0
        client.communicate()
    check_all_done(tmp_path / "out", 5)
    assert len(endpoint.accepted) == 5


def test_a_job_that_somebody_cancels_is_not_sent_again(tmp_path: Path) -> None:
    with Endpoint(Knobs(held=True)) as endpoint:
        arguments = ["batch", make_table(tmp_path / "in", 2), "--out", tmp_path / "out", "--endpoint", "abc", *QUICK]
        client = start(arguments, endpoint)
        endpoint.wait(lambda: len(endpoint.jobs) == 2, "jobs in flight")
        next(job for job in endpoint.jobs.values() if job.name == "item 1").status = "CANCELLED"
        endpoint.knobs.held = False
        assert client.wait(60) == 1
        client.communicate()
    assert [row["state"] for row in report(tmp_path / "out")] == ["cancelled", "done"]
    assert len(endpoint.accepted) == 2


def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(png(1, padding=300_000))
    small = {"type": "base64", "data": "iVBORw0KGgo="}

    def peak_mb(count: int) -> float:
        table = tmp_path / f"{count}.csv"
        table.write_text("user_photo,prompt\n" + "".join(f"photo.png,item {row}\n" for row in range(count)))
        with Endpoint(Knobs(looks=(1, 1), idempotent=False, output=lambda _: {"images": [small]})) as endpoint:
            out = tmp_path / f"out-{count}"
            client = start(["batch", table, "--out", out, "--endpoint", "abc", *QUICK], endpoint)
            _, status, usage = os.wait4(client.pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            client.returncode = 0
            client.communicate()
            assert len(endpoint.accepted) == count
        return usage.ru_maxrss / 1024

    few, many = peak_mb(100), peak_mb(1000)
    # The photos of the larger batch are 400 MB of requests.
    assert many - few < 20
