"""Files arrive whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flux_face.catalogue.download import LOCK
from flux_face.catalogue.errors import Cancelled, DownloadError, ModelError
from flux_face.tests.catalogue.conftest import Shop
from flux_face.tests.catalogue.hub import COMMIT, SIGNATURE, Fault, Hub, Served, self_signed

BYTES = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def failure(shop: Shop, **options: Any) -> ModelError:
    """The one error of a download."""
    with pytest.raises(DownloadError) as raised:
        shop.download(**options)
    assert len(raised.value.errors) == 1, raised.value
    return raised.value.errors[0]


def record(shop: Shop) -> dict[str, dict[str, object]]:
    files: dict[str, dict[str, object]] = json.loads((shop.models_dir / ".flux-face-models.json").read_text())["files"]
    return files


def test_a_file_of_the_hub(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    (outcome,) = shop.download()
    assert (outcome.model, outcome.state, outcome.verified) == ("a", "downloaded", "manifest")
    assert outcome.files == (shop.path("a"),)
    assert shop.path("a").read_bytes() == BYTES
    assert shop.names() == {"vae/a.bin"}
    assert shop.progress[-1] == ("vae/a.bin", len(BYTES), len(BYTES))
    entry = record(shop)["vae/a.bin"]
    assert (entry["sha256"], entry["verified"], entry["revision"]) == (sha256(BYTES), "manifest", COMMIT)


def test_the_bytes_come_from_the_commit_that_was_looked_at(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.download()
    asked = [request.path for request in shop.hub.seen if request.place == "hub"]
    assert asked == [f"/someone/models/resolve/{revision}/files/a.bin" for revision in ("main", COMMIT)]


def test_a_file_of_a_release_page(shop: Shop) -> None:
    shop.elsewhere("a", BYTES)
    assert shop.download()[0].verified == "manifest"
    assert shop.path("a").read_bytes() == BYTES


def test_a_file_of_a_dataset_repository(shop: Shop) -> None:
    shop.on_hub("a", BYTES, source={"repository": "someone/models", "path": "files/a.bin", "kind": "dataset"})
    shop.download()
    assert shop.hub.seen[0].path.startswith("/datasets/someone/models/resolve/main/")


def test_nothing_is_asked_for_what_is_there(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.elsewhere("b", OTHER)
    shop.path("a").parent.mkdir(parents=True)
    shop.path("a").write_bytes(BYTES)
    shop.path("b").write_bytes(OTHER)
    assert [outcome.state for outcome in shop.download()] == ["kept", "kept"]
    assert shop.hub.seen == []


def test_what_only_the_host_knows_is_asked_once(shop: Shop) -> None:
    shop.on_hub("a", BYTES, known=False)
    shop.path("a").parent.mkdir(parents=True)
    shop.path("a").write_bytes(BYTES)
    assert [(row.state, row.verified) for row in shop.download()] == [("kept", "host")]
    assert len(shop.hub.seen) == 1
    assert [(row.state, row.verified) for row in shop.download()] == [("kept", "host")]
    assert len(shop.hub.seen) == 1


def test_a_recorded_file_that_was_changed_is_seen(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.download()
    shop.path("a").write_bytes(OTHER)
    assert failure(shop).code == "wrong_file_there"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("content", [OTHER, BYTES[:-1]])
def test_another_file_in_its_place_is_replaced_only_when_told(shop: Shop, known: bool, content: bytes) -> None:
    shop.on_hub("a", BYTES, known=known)
    shop.path("a").parent.mkdir(parents=True)
    shop.path("a").write_bytes(content)
    error = failure(shop)
    assert error.code == "wrong_file_there"
    assert str(shop.path("a")) in error.problem
    assert shop.path("a").read_bytes() == content
    assert shop.download(replace=True)[0].state == "downloaded"
    assert shop.path("a").read_bytes() == BYTES


def test_the_hubs_checksum_counts_where_the_manifest_has_none(shop: Shop) -> None:
    shop.on_hub("a", BYTES, known=False)
    assert shop.download()[0].verified == "host"
    assert record(shop)["vae/a.bin"]["verified"] == "host"


def test_only_the_size_counts_where_nobody_has_a_checksum(shop: Shop) -> None:
    shop.elsewhere("a", BYTES, known=False)
    assert shop.download()[0].verified == "size"
    assert record(shop)["vae/a.bin"]["sha256"] == sha256(BYTES)


def test_a_body_without_an_announced_length(shop: Shop) -> None:
    served = shop.elsewhere("a", BYTES, known=False)
    served.length = False
    assert shop.download()[0].verified == "no"
    assert shop.path("a").read_bytes() == BYTES


def test_other_bytes_than_the_manifest_says_are_thrown_away(shop: Shop) -> None:
    shop.elsewhere("a", BYTES, sha256=sha256(OTHER))
    error = failure(shop)
    assert error.code == "checksum_mismatch"
    assert sha256(BYTES) in error.problem
    assert shop.names() == set()


def test_other_bytes_than_the_hub_says_are_thrown_away(shop: Shop) -> None:
    shop.on_hub("a", BYTES, known=False).sha256 = sha256(OTHER)
    assert failure(shop).code == "checksum_mismatch"
    assert shop.names() == set()


def test_a_file_that_the_hub_has_changed_is_not_fetched(shop: Shop) -> None:
    shop.on_hub("a", BYTES, sha256=sha256(OTHER))
    assert failure(shop).code == "model_changed"
    assert shop.hub.bodies() == []


@pytest.mark.parametrize("change", [1, -1])
def test_another_length_than_expected_is_refused(shop: Shop, change: int) -> None:
    shop.elsewhere("a", BYTES, size=len(BYTES) + change)
    assert failure(shop).code == "size_mismatch"
    assert shop.names() == set()


def test_more_bytes_than_expected_are_not_written(shop: Shop) -> None:
    served = shop.elsewhere("a", BYTES, size=len(BYTES) - 1000)
    served.length = False
    assert failure(shop).code == "size_mismatch"
    assert shop.names() == set()


def test_a_transfer_that_breaks_off_goes_on_where_it_was(shop: Shop) -> None:
    served = shop.on_hub("a", BYTES)
    served.cdn_faults = [Fault(bytes=100_000), Fault(bytes=50_000)]
    shop.download()
    assert shop.path("a").read_bytes() == BYTES
    asked = [(row.headers.get("Range"), row.headers.get("If-Range")) for row in shop.hub.bodies()]
    assert asked == [(None, None), ("bytes=100000-", served.etag), ("bytes=150000-", served.etag)]


def test_a_host_that_answers_no_head(shop: Shop) -> None:
    shop.elsewhere("a", BYTES, known=False).hub_faults = [Fault(status=405)]
    assert shop.download()[0].verified == "no"
    assert shop.path("a").read_bytes() == BYTES


def test_an_early_end_is_seen_without_an_announced_length(shop: Shop) -> None:
    served = shop.on_hub("a", BYTES)
    served.length, served.cdn_faults = False, [Fault(bytes=100_000)]
    shop.download()
    assert shop.path("a").read_bytes() == BYTES


@pytest.mark.parametrize("place", ["hub", "elsewhere"])
def test_a_later_call_goes_on_where_an_earlier_one_was(shop: Shop, place: str) -> None:
    served = shop.on_hub("a", BYTES) if place == "hub" else shop.elsewhere("a", BYTES, known=False)
    served.cdn_faults = [Fault(bytes=100_000)]
    error = failure(shop, attempts=1)
    assert error.code == "network"
    assert "100000 of 300000" in error.problem
    assert shop.names() == {"vae/a.bin.part", "vae/a.bin.part.json"}
    shop.download()
    assert shop.hub.bodies()[-1].headers["Range"] == "bytes=100000-"
    assert shop.path("a").read_bytes() == BYTES
    assert shop.names() == {"vae/a.bin"}


@pytest.mark.parametrize("ranges", ["yes", "always"])
def test_a_file_that_changed_meanwhile_is_not_spliced(shop: Shop, ranges: str) -> None:
    served = shop.elsewhere("a", BYTES, known=False)
    served.cdn_faults = [Fault(bytes=100_000)]
    failure(shop, attempts=1)
    served.content, served.ranges = OTHER, ranges
    shop.download()
    assert shop.path("a").read_bytes() == OTHER


def test_a_host_without_ranges_sends_it_all_again(shop: Shop) -> None:
    served = shop.on_hub("a", BYTES)
    served.cdn_faults, served.ranges = [Fault(bytes=100_000)], "no"
    shop.download()
    assert shop.path("a").read_bytes() == BYTES


def test_a_part_with_wrong_bytes_is_begun_again(shop: Shop) -> None:
    served = shop.on_hub("a", BYTES)
    served.cdn_faults = [Fault(bytes=100_000)]
    failure(shop, attempts=1)
    part = shop.path("a").with_name("a.bin.part")
    part.write_bytes(bytes(len(part.read_bytes())))
    shop.download()
    assert shop.path("a").read_bytes() == BYTES


def test_a_part_of_another_file_is_not_gone_on_with(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.path("a").parent.mkdir(parents=True)
    shop.path("a").with_name("a.bin.part").write_bytes(OTHER[:1000])
    shop.path("a").with_name("a.bin.part.json").write_text(json.dumps({"sha256": sha256(OTHER), "etag": None}))
    shop.download()
    assert "Range" not in shop.hub.bodies()[0].headers
    assert shop.path("a").read_bytes() == BYTES


def test_a_whole_part_is_placed_without_asking_for_bytes(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.path("a").parent.mkdir(parents=True)
    shop.path("a").with_name("a.bin.part").write_bytes(BYTES)
    shop.path("a").with_name("a.bin.part.json").write_text(json.dumps({"sha256": sha256(BYTES), "etag": None}))
    shop.download()
    assert shop.hub.bodies() == []
    assert shop.path("a").read_bytes() == BYTES


def test_passing_troubles_are_waited_out(shop: Shop) -> None:
    served = shop.on_hub("a", BYTES)
    served.hub_faults = [Fault(status=503), Fault(status=429, headers={"Retry-After": "0"})]
    served.cdn_faults = [Fault(status=500), Fault(status=429, headers={"Retry-After": "0"})]
    shop.download()
    assert shop.path("a").read_bytes() == BYTES


def test_an_address_that_expired_is_asked_for_again(shop: Shop) -> None:
    shop.on_hub("a", BYTES).cdn_faults = [Fault(status=403)]
    shop.download()
    assert shop.path("a").read_bytes() == BYTES


@pytest.mark.parametrize("where", ["hub_faults", "cdn_faults"])
def test_troubles_that_do_not_pass_are_an_error(shop: Shop, where: str) -> None:
    setattr(shop.on_hub("a", BYTES), where, [Fault(status=503)] * 9)
    error = failure(shop, attempts=3)
    assert error.code == "host_unavailable"
    assert "answers 503 (attempt 3)" in error.problem
    answered = [row for row in shop.hub.seen if row.place == where.partition("_")[0]]
    assert len([row for row in answered if row.method == ("HEAD" if where == "hub_faults" else "GET")]) == 3


@pytest.mark.parametrize("wait", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_host_that_asks_for_a_long_wait_is_an_error(shop: Shop, wait: str) -> None:
    shop.on_hub("a", BYTES).hub_faults = [Fault(status=429, headers={"Retry-After": wait})]
    error = failure(shop)
    assert error.code == "rate_limited"
    assert "asks to wait" in error.problem


def test_a_host_that_is_not_there(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.elsewhere("b", BYTES, source={"url": "http://127.0.0.1:9/b.bin"})
    shop.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    with pytest.raises(DownloadError) as raised:
        shop.download(attempts=2)
    assert [error.code for error in raised.value.errors] == ["network"]
    assert shop.names() == set()


def test_a_gated_file_needs_an_account(shop: Shop) -> None:
    served = shop.on_hub("a", BYTES, gated=True)
    served.tokens, served.gated = {"good-token"}, True
    error = failure(shop, accept_licences={"free"})
    assert error.code == "gated"
    assert "https://example.org/free" in error.remedy
    shop.env["HF_TOKEN"] = "bad-token"
    error = failure(shop, accept_licences={"free"})
    assert error.code == "gated"
    assert "the token's account" in error.problem
    assert "bad-token" not in str(error)
    shop.env["HUGGINGFACE_ACCESS_TOKEN"] = "good-token"
    shop.download(accept_licences={"free"})
    assert shop.path("a").read_bytes() == BYTES


@pytest.mark.parametrize(
    ("token", "code"), [(None, "token_needed"), ("bad-token", "token_refused"), ("good-token", None)]
)
def test_a_private_file_needs_a_token(shop: Shop, token: str | None, code: str | None) -> None:
    shop.on_hub("a", BYTES).tokens = {"good-token"}
    if token:
        shop.env["HUGGINGFACE_ACCESS_TOKEN"] = token
    if code is None:
        shop.download()
    else:
        assert failure(shop).code == code


def test_redirects_have_an_end(shop: Shop) -> None:
    shop.elsewhere("a", BYTES).hub_faults = [Fault(status=302, headers={"Location": "/releases/a.bin"})] * 50
    assert failure(shop).code == "too_many_redirects"
    assert len(shop.hub.seen) == 10


def test_a_redirect_does_not_leave_tls(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path / "server.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Hub.running(certificate) as secure:
        shop.elsewhere("a", BYTES, source={"url": f"{secure.url()}/releases/a.bin"})
        secure.files["releases/a.bin"] = Served(BYTES)
        shop.download()
        assert shop.path("a").read_bytes() == BYTES
        shop.path("a").unlink()
        elsewhere = {"Location": f"{shop.hub.url('cdn')}/releases/a.bin"}
        secure.files["releases/a.bin"].hub_faults = [Fault(status=302, headers=elsewhere)]
        assert failure(shop).code == "insecure_redirect"
        assert shop.hub.seen == []


def test_a_file_that_has_gone(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.elsewhere("b", BYTES)
    shop.hub.files.clear()
    assert failure(shop).code == "not_found"


def test_tokens_are_seen_by_their_host_only(
    shop: Shop, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    shop.env |= {"HUGGINGFACE_ACCESS_TOKEN": "hub-secret", "CIVITAI_API_KEY": "civitai-secret"}
    shop.on_hub("a", BYTES)
    shop.elsewhere("b", OTHER, source={"url": f"{shop.hub.url('cdn')}/releases/b.bin"}).cdn_faults = [Fault(bytes=9)]
    shop.download()
    tokens = {(row.place, row.headers.get("Authorization")) for row in shop.hub.seen}
    assert tokens == {("hub", "Bearer hub-secret"), ("cdn", None)}
    captured = capfd.readouterr()
    for secret in ("hub-secret", "civitai-secret"):
        assert secret not in caplog.text + captured.out + captured.err
        assert secret not in (shop.models_dir / ".flux-face-models.json").read_text()


def test_a_token_needs_tls(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.env |= {"HF_ENDPOINT": "http://mirror.example.org", "HF_TOKEN": "hub-secret"}
    error = failure(shop)
    assert error.code == "insecure_endpoint"
    assert "hub-secret" not in str(error)


def test_a_token_that_the_library_finds_by_itself_is_not_sent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "of-the-process")
    shop.on_hub("a", BYTES)
    shop.download()
    assert {row.headers.get("Authorization") for row in shop.hub.seen} == {None}


def test_passwords_of_netrc_are_not_sent(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    shop.elsewhere("a", BYTES)
    shop.download()
    assert {row.headers.get("Authorization") for row in shop.hub.seen} == {None}


def test_signed_addresses_are_in_no_error(shop: Shop) -> None:
    shop.on_hub("a", BYTES).cdn_faults = [Fault(bytes=9), Fault(status=403), Fault(status=403)]
    error = failure(shop, attempts=3)
    assert error.code == "host_unavailable"
    assert SIGNATURE not in str(error)


def test_a_cancelled_download_goes_on_later(shop: Shop) -> None:
    served = shop.on_hub("a", BYTES)
    served.cdn_faults = [Fault(drip=1000)]
    cancel = threading.Event()
    received = []

    def report(_name: str, have: int, _total: int | None) -> None:
        received.append(have)
        if have >= 2000:
            cancel.set()

    with pytest.raises(Cancelled):
        shop.download(cancel, report)
    assert shop.names() == {"vae/a.bin.part", "vae/a.bin.part.json"}
    assert received[-1] < len(BYTES)
    cancel.clear()
    shop.download()
    assert shop.hub.bodies()[-1].headers["Range"] == f"bytes={received[-1]}-"
    assert shop.path("a").read_bytes() == BYTES


@pytest.mark.timeout(60)
def test_a_cancelled_wait_ends_at_once(shop: Shop) -> None:
    served = shop.on_hub("a", BYTES)
    served.hub_faults = [Fault(status=429, headers={"Retry-After": "200"})]
    cancel = threading.Event()
    timer = threading.Timer(0.3, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        shop.download(cancel)
    timer.join()


def test_nothing_is_fetched_where_the_disk_is_too_small_for_all(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.elsewhere("b", OTHER)
    error = failure(shop, reserve_bytes=1000, free_bytes=lambda _: 600_999)
    assert error.code == "disk_full"
    assert shop.hub.bodies() == []
    shop.download(reserve_bytes=1000, free_bytes=lambda _: 601_000)


def test_a_part_counts_as_room(shop: Shop) -> None:
    shop.on_hub("a", BYTES).cdn_faults = [Fault(bytes=100_000)]
    failure(shop, attempts=1)
    assert failure(shop, free_bytes=lambda _: 199_999).code == "disk_full"
    shop.download(free_bytes=lambda _: 200_000)


def test_licences_are_accepted_first(shop: Shop) -> None:
    shop.on_hub("a", BYTES, licence="study")
    shop.on_hub("b", BYTES, gated=True)
    shop.on_hub("c", BYTES)
    with pytest.raises(DownloadError) as raised:
        shop.download(accept_licences={"mistaken"})
    assert [error.code for error in raised.value.errors] == [
        "unknown_licence",
        "licence_not_accepted",
        "licence_not_accepted",
    ]
    assert "Study Only" in raised.value.errors[1].problem
    assert "https://example.org/study" in raised.value.errors[1].remedy
    assert shop.hub.seen == []
    assert len(shop.download(accept_licences={"study", "free"})) == 3


def test_one_that_fails_does_not_stop_the_others(shop: Shop) -> None:
    shop.on_hub("a", BYTES).cdn_faults = [Fault(status=404), Fault(status=404)]
    shop.on_hub("b", OTHER)
    assert failure(shop, attempts=2).subject == "a"
    assert shop.names() == {"vae/b.bin"}


def test_nothing_is_fetched_where_one_is_refused(shop: Shop) -> None:
    shop.on_hub("a", BYTES).tokens = set()
    shop.on_hub("b", OTHER)
    assert failure(shop).subject == "a"
    assert shop.hub.bodies() == []


def test_two_downloads_into_one_folder(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.models_dir.mkdir()
    with FileLock(shop.models_dir / LOCK):
        assert failure(shop).code == "busy"
    shop.download()


def test_a_folder_that_cannot_be_made(shop: Shop) -> None:
    shop.on_hub("a", BYTES)
    shop.models_dir.mkdir()
    (shop.models_dir / "vae").write_bytes(b"a file")
    assert failure(shop).code == "cannot_write"


def test_a_broken_record_is_made_anew(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.on_hub("a", BYTES)
    shop.download()
    (shop.models_dir / ".flux-face-models.json").write_text("{")
    assert shop.download()[0].state == "kept"
    assert "cannot be read" in caplog.text
    assert record(shop)["vae/a.bin"]["sha256"] == sha256(BYTES)
