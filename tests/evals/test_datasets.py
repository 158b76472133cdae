"""Files laid down by hand become rows; short, changed and missing ones are named. No network and no TensorFlow."""

import gzip
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from azr_jax.evals import datasets
from azr_jax.evals.datasets import DataProblem, load
from azr_jax.evals.sources import DATASETS, Dataset, File

ROWS = [{"name": "b", "text": "é\u2028\x0b"}, {"name": "a", "text": "", "list": [1, None, {"x": 0.5}]}]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
SHA = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    file = File("folder/made_up.jsonl", "https://made-up.invalid/x.jsonl", "v7", 2, SHA)
    monkeypatch.setitem(DATASETS, "made_up", Dataset("made_up", "name", ((file,),)))


def laid_down(folder, text=TEXT, name="made_up.jsonl"):
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "folder" / name).write_bytes(text)
    return folder


def test_rows_come_back_as_they_were_and_in_order(tmp_path):
    loaded = load("made_up", laid_down(tmp_path), tmp_path / "cache")
    assert [row.id for row in loaded.rows] == ["b", "a"]
    assert [row.fields for row in loaded.rows] == ROWS


def test_packed_and_plain_files_are_the_same(tmp_path):
    plain = load("made_up", laid_down(tmp_path), tmp_path / "cache")
    (tmp_path / "folder" / "made_up.jsonl").unlink()
    packed = load("made_up", laid_down(tmp_path, gzip.compress(TEXT), "made_up.jsonl.gz"), tmp_path / "cache")
    assert plain == packed


def test_a_short_file_is_an_error(tmp_path):
    with pytest.raises(DataProblem, match=r"1 rows, should be 2, those of https://made-up.invalid/x.jsonl at v7"):
        load("made_up", laid_down(tmp_path, TEXT.split(b"\n")[0] + b"\n"), tmp_path / "cache")


def test_a_changed_file_is_an_error_even_when_its_rows_were_prepared_before(tmp_path):
    load("made_up", laid_down(tmp_path), tmp_path / "cache")
    with pytest.raises(DataProblem, match=rf"changed: .*should be {SHA}"):
        load("made_up", laid_down(tmp_path, TEXT.replace(b"0.5", b"0.6")), tmp_path / "cache")


def test_a_torn_or_damaged_archive_is_an_error(tmp_path):
    whole = gzip.compress(TEXT)
    for bad in (whole[:-9], whole[:20] + b"\xff" * 20 + whole[40:]):
        with pytest.raises(DataProblem, match="does not unpack"):
            load("made_up", laid_down(tmp_path, bad, "made_up.jsonl.gz"), tmp_path / "cache")


@pytest.mark.parametrize("line", [b"\xff\xfe", b"{no json", b'{"no": "name"}', b"[1, 2]"])
def test_rows_that_cannot_be_read_are_named(tmp_path, monkeypatch, line):
    """Where no checksum is known."""
    file = File("folder/made_up.jsonl", "https://made-up.invalid/x.jsonl", "v7", 2)
    monkeypatch.setitem(DATASETS, "made_up", Dataset("made_up", "name", ((file,),)))
    with pytest.raises(DataProblem, match=r"made_up: the rows of folder/made_up.jsonl .*with 'name'"):
        load("made_up", laid_down(tmp_path, line + b"\n" + TEXT.split(b"\n")[1] + b"\n"), tmp_path / "cache")


def test_prepared_rows_that_were_damaged_are_prepared_again(tmp_path):
    before = load("made_up", laid_down(tmp_path), tmp_path / "cache")
    (prepared,) = (tmp_path / "cache").rglob("*array_record*-of-*")
    for damage in (lambda: prepared.write_bytes(prepared.read_bytes()[:50]), prepared.unlink):
        damage()
        assert load("made_up", tmp_path, tmp_path / "cache") == before


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataProblem, match="writable"):
        load("made_up", laid_down(tmp_path), tmp_path / "cache")


def test_processes_that_start_together_share_one_cache(tmp_path):
    """Threads stand for them: each opens the lock by itself."""
    laid_down(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load("made_up", tmp_path, tmp_path / "cache"), range(4)))
    assert len(set(map(str, loaded))) == 1


def test_a_missing_file_names_source_folder_and_way_out(tmp_path):
    with pytest.raises(DataProblem, match=rf"{tmp_path}.*folder/made_up.jsonl.*made-up.invalid/x.jsonl.*--data_dir"):
        load("made_up", tmp_path, tmp_path / "cache")


def test_without_network_the_same_is_said(tmp_path, monkeypatch):
    def no_network(url, timeout):
        raise OSError("Name or service not known")

    monkeypatch.setattr(datasets.urllib.request, "urlopen", no_network)
    with pytest.raises(DataProblem, match=r"cannot be reached \(Name or service not known\).*--data_dir"):
        load("made_up", None, tmp_path / "cache")


def test_what_is_fetched_is_kept_and_checked(tmp_path, monkeypatch):
    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read(self):
            return gzip.compress(TEXT)

    class Page(Answer):
        def read(self):
            return b"<html>Please log in</html>"

    monkeypatch.setattr(datasets.urllib.request, "urlopen", lambda url, timeout: Page())
    with pytest.raises(DataProblem, match=r"what https://made-up.invalid/x.jsonl answered: 1 rows, should be 2"):
        load("made_up", None, tmp_path)
    monkeypatch.setattr(datasets.urllib.request, "urlopen", lambda url, timeout: Answer())
    assert len(load("made_up", None, tmp_path).rows) == 2
    monkeypatch.delattr(datasets.urllib.request, "urlopen")
    assert len(load("made_up", None, tmp_path).rows) == 2


def test_tensorflow_is_not_needed(tmp_path):
    """Not imported where it is there, not missed where it is not."""
    laid_down(tmp_path, b'{"problem": "p", "id": 1}\n' * 30)
    program = (
        "import sys\n"
        "from azr_jax.evals.datasets import AzrBenchmarks, _Config\n"
        "from azr_jax.evals.sources import DATASETS\n"
        "config = _Config(name='x', dataset=DATASETS['gsm8k'], lines=lambda: iter([b'{\"a\": 1}']))\n"
        f"builder = AzrBenchmarks(config=config, data_dir={str(tmp_path / 'cache')!r}, file_format='array_record')\n"
        "builder.download_and_prepare()\n"
        "assert [one['id'] for one in builder.as_data_source(split='test')] == [b'0']\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_every_source_says_what_it_is():
    for dataset in DATASETS.values():
        for file in (file for files in dataset.choices for file in files):
            assert file.rows > 0
            assert file.url.startswith("https://")
            assert file.revision
            assert len(file.sha256) in (0, 64)
