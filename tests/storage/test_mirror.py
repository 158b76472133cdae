"""A folder that a bucket follows: the same bytes, for what was written and no more, through what may go wrong."""

from pathlib import Path

import pytest

from azr_jax.storage import bucket as module
from azr_jax.storage import mirror as mirrors
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.lease import Taken
from azr_jax.storage.mirror import Mirror
from azr_jax.storage.spans import Torn
from tests.storage.conftest import bucket_at, client
from tests.storage.proxy import Fault, Proxy


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(mirrors, "LIST_WAIT_S", 0.01)


def play(folder: Path, iteration: int) -> None:
    """What an iteration leaves behind."""
    (folder / "buffers").mkdir(exist_ok=True)
    for name in ("metrics.jsonl", "records.jsonl", "buffers/error.jsonl"):
        with (folder / name).open("a") as file:
            file.write(f'{{"{name}": {iteration}}}\n' * 3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pulled(bucket: Bucket, folder: Path) -> dict[str, bytes]:
    Mirror(bucket, folder=folder).pull()
    return contents(folder)


def test_another_machine_reads_the_same_bytes(server: str, tmp_path: Path):
    bucket = bucket_at(server)
    mirror = Mirror(bucket, term=1, folder=tmp_path / "here")
    (mirror.folder / "config.json").write_text("{}")
    for iteration in range(5):
        play(mirror.folder, iteration)
        mirror.publish()
    assert pulled(bucket, tmp_path / "there") == contents(mirror.folder)
    # And follows what comes, as `report --live` does, which makes its page anew where a file has another time.
    follower = Mirror(bucket, folder=tmp_path / "there")
    follower.pull()
    times = {path: path.stat().st_mtime_ns for path in follower.folder.rglob("*.jsonl")}
    follower.pull()
    assert times == {path: path.stat().st_mtime_ns for path in follower.folder.rglob("*.jsonl")}
    play(mirror.folder, 5)
    (mirror.folder / "config.json").write_text('{"a": 1}')
    mirror.publish()
    follower.pull()
    assert contents(follower.folder) == contents(mirror.folder)


def test_a_run_that_goes_on_elsewhere_cuts_back_and_writes_on(server: str, tmp_path: Path):
    bucket = bucket_at(server)
    first = Mirror(bucket, term=1, folder=tmp_path / "first")
    sizes = []
    for iteration in range(6):
        play(first.folder, iteration)
        first.publish()
        sizes.append((first.folder / "metrics.jsonl").stat().st_size)
    second = Mirror(bucket, term=2, folder=tmp_path / "second")
    second.pull()
    for path in second.folder.rglob("*.jsonl"):  # back to the checkpoint after the fourth
        data = path.read_bytes()
        path.write_bytes(b"".join(data.splitlines(keepends=True)[:12]))
    assert (second.folder / "metrics.jsonl").stat().st_size == sizes[3]
    for iteration in (40, 50, 60):  # no publishing in between: the cut is seen from the bytes
        play(second.folder, iteration)
    second.publish()
    assert pulled(bucket, tmp_path / "third") == contents(second.folder)
    # The first owner wakes up, and what it writes is passed over.
    play(first.folder, 6)
    first.publish()
    assert pulled(bucket, tmp_path / "fourth") == contents(second.folder)


def test_an_iteration_costs_what_it_wrote_however_long_the_run(proxy: Proxy, tmp_path: Path):
    """Requests and bytes of each of 30 iterations are the same: one object for each log."""
    mirror = Mirror(bucket_at(proxy.url), term=1, folder=tmp_path)
    costs = []
    for iteration in range(30):
        play(tmp_path, 100 + iteration)
        before = len(proxy.seen)
        mirror.publish()
        passed = proxy.seen[before:]
        costs.append((len(passed), sum(one.sent for one in passed)))
    assert {requests for requests, _ in costs[1:]} == {3}
    assert max(sent for _, sent in costs[1:]) - min(sent for _, sent in costs[1:]) <= 30  # names' digits


@pytest.mark.parametrize("kind", [Fault("status", 503), Fault("status", 429), Fault("lost"), Fault("cut")], ids=str)
def test_nothing_is_lost_or_twice_there_when_every_second_request_fails(proxy: Proxy, kind: Fault, tmp_path: Path):
    bucket = bucket_at(proxy.url)
    mirror = Mirror(bucket, term=1, folder=tmp_path / "here")
    for iteration in range(6):
        play(mirror.folder, iteration)
        proxy.spoil(kind, times=2)
        mirror.publish()
    proxy.spoil(kind, times=2)
    assert pulled(bucket, tmp_path / "there") == contents(mirror.folder)


def test_a_stale_listing_is_asked_again_and_a_hole_that_stays_is_told(proxy: Proxy, tmp_path: Path):
    bucket = bucket_at(proxy.url)
    mirror = Mirror(bucket, term=1, folder=tmp_path / "here")
    for iteration in range(3):
        play(mirror.folder, iteration)
        mirror.publish()
    first = mirror._log("metrics.jsonl").spans[1]
    proxy.spoil(Fault("hidden", says=first.name), times=2, path="prefix=runs/first/metrics.jsonl/")
    assert pulled(bucket, tmp_path / "there") == contents(mirror.folder)
    bucket.delete([first.name])
    with pytest.raises(Torn, match=rf"metrics.jsonl: its bytes from {first.start} to {first.end} are missing"):
        pulled(bucket, tmp_path / "later")


def test_who_lost_the_workdir_writes_nothing(fake_gcs: str, tmp_path: Path):
    bucket = bucket_at(fake_gcs)

    def lost() -> None:
        raise Taken("another has it")

    mirror = Mirror(bucket, term=1, folder=tmp_path, may_write=lost)
    play(tmp_path, 0)
    with pytest.raises(Taken):
        mirror.publish()
    assert bucket.list() == ([], [])


def test_checkpoints_and_compiled_programs_are_not_listed_nor_read(proxy: Proxy, tmp_path: Path):
    bucket = Bucket(bucket_at(proxy.url).url, client(proxy.url))
    bucket.write("checkpoints/1/params/d/0", b"x" * 1000)
    bucket.write("compiled/jit_step-cache", b"x" * 1000)
    bucket.write("config.json", b"{}")
    before = len(proxy.seen)
    assert pulled(bucket, tmp_path) == {"config.json": b"{}"}
    assert not [one for one in proxy.seen[before:] if "checkpoints" in one.path or "compiled" in one.path]
