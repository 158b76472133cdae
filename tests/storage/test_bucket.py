"""Objects of a bucket, against real servers: what is written is read, and what goes wrong is waited out or told."""

from __future__ import annotations

import re
import time

import pytest
from etils import epath
from google.auth.credentials import Credentials

from azr_jax.storage import bucket as module
from azr_jax.storage.bucket import Bucket, is_bucket
from azr_jax.storage.errors import Changed, StorageError
from tests.storage.conftest import bucket_at, client
from tests.storage.proxy import Fault, Proxy


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)


def test_an_object_is_written_read_listed_and_deleted(server: str):
    bucket = bucket_at(server)
    assert bucket.read("config.json") is None
    assert not bucket.exists("config.json")
    assert bucket.list() == ([], [])
    bucket.write("config.json", b"{}")
    bucket.write("buffers/error.jsonl", b"0123456789")
    assert bucket.read("config.json") == b"{}"
    assert bucket.read("buffers/error.jsonl", 2, 5) == b"234"
    assert [each.name for each in bucket.list()[0]] == ["buffers/error.jsonl", "config.json"]
    here, folders = bucket.list(deep=False)
    assert ([each.name for each in here], folders) == (["config.json"], ["buffers/"])
    bucket.write("config.json", b"{...}")
    assert bucket.stat("config.json").size == 5
    bucket.delete(["config.json", "buffers/error.jsonl", "never was there"])
    assert bucket.list() == ([], [])


def test_a_file_goes_there_and_comes_back_in_parts(server: str, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 256 * 1024)  # uploads in parts want multiples of this
    bucket, data = bucket_at(server), bytes(range(256)) * 4_000
    (tmp_path / "weights").write_bytes(data)
    bucket.send(tmp_path / "weights", "model/weights")
    bucket.fetch("model/weights", tmp_path / "back" / "weights")
    assert (tmp_path / "back" / "weights").read_bytes() == data


def test_an_object_is_made_once_and_replaced_only_as_it_was_seen(fake_gcs: str):
    bucket = bucket_at(fake_gcs)
    first = bucket.write("owner.json", b"one", generation=0)
    with pytest.raises(Changed):
        bucket.write("owner.json", b"two", generation=0)
    second = bucket.write("owner.json", b"two", generation=first)
    with pytest.raises(Changed):
        bucket.write("owner.json", b"three", generation=first)
    assert bucket.read("owner.json") == b"two"
    assert bucket.stat("owner.json").generation == second


@pytest.mark.parametrize(
    "fault",
    [*(Fault("status", number) for number in (408, 429, 500, 503)), Fault("cut"), Fault("lost")],
    ids=lambda fault: f"{fault.kind}{fault.value or ''}",
)
def test_what_passes_is_waited_out_in_every_request(proxy: Proxy, fault: Fault):
    bucket = bucket_at(proxy.url)
    proxy.spoil(fault, times=2)
    bucket.write("a", b"x" * 1000)
    proxy.spoil(fault, times=2)
    assert bucket.read("a") == b"x" * 1000
    proxy.spoil(fault, times=2)
    assert [each.name for each in bucket.list()[0]] == ["a"]
    proxy.spoil(fault, times=2)
    assert bucket.stat("a").size == 1000
    proxy.spoil(fault, times=2)
    bucket.delete(["a"])
    assert bucket.read("a") is None


def test_a_slow_answer_is_asked_for_again(proxy: Proxy):
    bucket = bucket_at(proxy.url, timeout_s=0.2)
    bucket.write("a", b"x")
    proxy.spoil(Fault("slow", 0.6), times=1)
    began = time.monotonic()
    assert bucket.read("a") == b"x"
    assert time.monotonic() - began < 0.6


def test_a_write_whose_answer_was_lost_is_not_taken_for_another_ones(proxy: Proxy):
    """The second try meets the object that the first one made, and its precondition fails."""
    bucket = bucket_at(proxy.url)
    proxy.spoil(Fault("lost"), method="POST")
    generation = bucket.write("owner.json", b"me", generation=0)
    assert bucket.stat("owner.json").generation == generation
    bucket.write("owner.json", b"me again", generation=generation)


def test_a_bucket_that_stays_away_is_given_up_after_its_time(proxy: Proxy):
    bucket = bucket_at(proxy.url, patience_s=0.3)
    proxy.spoil(Fault("status", 503), times=1000)
    with pytest.raises(StorageError, match=r"gs://\S+: read a: spoiled by the test; tried \d+ times in 0 s") as told:
        bucket.read("a")
    assert told.value.passing
    assert 4 < len(proxy.seen) < 20


def test_what_broke_off_after_a_long_while_is_asked_for_again(proxy: Proxy):
    """A part that had come slowly for longer than the patience was given up at its first break."""
    bucket = bucket_at(proxy.url, patience_s=0.3)
    bucket.write("a", b"x")

    def slow(method: str, path: str) -> None:
        proxy.look = lambda method, path: None
        time.sleep(0.6)
        proxy.spoil(Fault("cut"), path="alt=media")

    proxy.look = slow
    assert bucket.read("a") == b"x"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("status", 403, "x@y.com does not have storage.objects.get access"), "not permitted (x@y.com does not"),
        (Fault("status", 401, "Invalid Credentials"), "the credentials have expired or are not accepted"),
    ],
)
def test_what_no_waiting_helps_is_one_line_at_once(proxy: Proxy, fault: Fault, words: str):
    bucket = bucket_at(proxy.url)
    seen = len(proxy.seen)
    proxy.spoil(fault, times=1000)
    for request in (lambda: bucket.read("a"), lambda: bucket.write("a", b""), lambda: bucket.list(), bucket.check):
        with pytest.raises(StorageError) as told:
            request()
        assert words in str(told.value)
        assert "\n" not in str(told.value)
        assert not told.value.passing
    # Each once; beside them the client looks at the bucket for itself.
    assert len([one for one in proxy.seen[seen:] if f"{bucket.url[5:].partition('/')[0]}/o" in one.path]) == 3


def test_a_bucket_that_is_not_there_is_named(server: str):
    bucket = Bucket("gs://no-such-bucket/run", client(server))
    with pytest.raises(StorageError, match="gs://no-such-bucket/run: open the bucket: there is no such bucket"):
        bucket.check()


class Expiring(Credentials):
    """A token that is good until the server has another one; `refresh` fetches `newest`, as often as it is asked: the
    client's own look at the bucket, in a thread, may renew it beside the request.
    """

    def __init__(self, token: str):
        super().__init__()
        self.token: str | None = token
        self.newest: str | None = token

    @property
    def expired(self) -> bool:
        return False  # the clock of this machine says nothing of it

    def refresh(self, request: object) -> None:
        from google.auth.exceptions import RefreshError

        if self.newest is None:
            raise RefreshError("Token has been expired or revoked.")
        self.token = self.newest


def test_a_token_that_expires_is_renewed_and_one_that_cannot_be_is_told(proxy: Proxy):
    plain, credentials = bucket_at(proxy.url), Expiring("first")
    bucket = Bucket(plain.url, client(proxy.url, credentials))
    proxy.token = "first"
    bucket.write("a", b"x")
    proxy.token = credentials.newest = "second"
    assert bucket.read("a") == b"x"
    proxy.token, credentials.newest = "third", None
    with pytest.raises(StorageError, match="the credentials have expired or are not accepted"):
        bucket.read("a")


def test_an_address_is_a_folder_or_a_bucket():
    assert not is_bucket("runs/first")
    assert is_bucket("gs://bucket/runs/first")
    with pytest.raises(StorageError, match="s3://b/x: should be a folder, or gs://<bucket>/<folder>"):
        is_bucket("s3://b/x")
    for mistyped in (
        "gs:/bucket/run",
        "GS://bucket/run",
        "gs:bucket/run",
        "gs//bucket/run",
    ):  # each was a folder of that name
        with pytest.raises(StorageError, match=f"{mistyped}: should be a folder, or gs://<bucket>/<folder>"):
            is_bucket(mistyped)
    # The last three were tracebacks of the client.
    for nowhere in ("gs:///x", "gs://bucket/../x", "gs://-bucket/x", "gs://bucket#/x", "gs://bucket?a/x"):
        with pytest.raises(StorageError, match=rf"{re.escape(nowhere)}: should be gs://<bucket>/<folder>"):
            Bucket(nowhere, object())
    with pytest.raises(StorageError, match=r"'gs://bucket/a\\nb': holds a character that nobody can see"):
        Bucket("gs://bucket/a\nb", object())


@pytest.mark.parametrize(
    "url", ["gs://b/runs/first", "gs://b/runs/first/", "gs://b//runs/first", "gs://b/./runs//first"]
)
def test_an_address_is_what_orbax_takes_it_for(url: str):
    """Files went to one folder of the bucket, checkpoints to another."""
    assert Bucket(url, client("http://localhost:1")).url == str(epath.Path(url)) == "gs://b/runs/first"
