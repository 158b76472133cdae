"""Pre-training repeats itself exactly, also when it was stopped on the way, and what it ships is what it says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from azr_jax.models.spec import load_spec
from azr_jax.nano import heldout, pretrain, texts, tokenizer
from azr_jax.nano.pretrain import Recipe, make

BASE = Path(pretrain.__file__).with_name("base")
SMALL = Recipe(programs=60, steps=6, stop=4, reading=3, texts=8, width=32, depth=1, heads=2, mlp=32)


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes_and_a_stopped_run_too(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 1)
    monkeypatch.setattr(pretrain, "TOKENIZER_STEPS", 2)
    make(SMALL, tmp_path / "whole", tmp_path / "whole.work", workers=1)

    texts_of = pretrain.batch_texts

    def dies(recipe, known, step):
        if step == 2 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            raise KeyboardInterrupt
        return texts_of(recipe, known, step)

    monkeypatch.setattr(pretrain, "batch_texts", dies)
    with pytest.raises(KeyboardInterrupt):
        make(SMALL, tmp_path / "stopped", tmp_path / "stopped.work", workers=1)
    make(SMALL, tmp_path / "stopped", tmp_path / "stopped.work", workers=1)
    for name in ("model.safetensors", "tokenizer.json", "config.json", "recipe.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_shipped_base_is_small_and_of_the_size_it_says():
    spec = load_spec(BASE)
    assert spec.vocab == Tokenizer.from_file(str(BASE / "tokenizer.json")).get_vocab_size()
    parameters = sum(_size(weight.shape) * (spec.depth if weight.per_layer else 1) for weight in spec.weights())
    assert 1_000_000 <= parameters <= 5_000_000
    assert sum(file.stat().st_size for file in BASE.iterdir()) <= 8_000_000
    assert Recipe(**json.loads((BASE / pretrain.RECIPE).read_text())).width == spec.width


def test_the_shipped_tokenizer_knows_todays_prompts():
    """Where the wording of a prompt has changed, its fixed parts fall to bytes: the base must be made again then."""
    shipped = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    for piece in tokenizer.fixed_pieces():
        assert len(shipped.encode(piece).ids) == 1, piece
    rng = random.Random(0)
    for held in rng.sample(list(heldout.load()), 30):
        prompt = texts.prompts.solve(held.kind, held.task, style=texts.STYLE).render()
        assert len(shipped.encode(prompt).ids) <= 160


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
