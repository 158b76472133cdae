"""Words that the proposer does without for an iteration: which they may be, and that sampler and learner agree."""

import keyword
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from azr_jax.learner.packing import TrainingSample, pack
from azr_jax.learner.step import LearnerSettings, init_state, make_score, make_step
from azr_jax.learner.terms import Objective
from azr_jax.models.sharding import random_model
from azr_jax.rollout.engine import Engine
from azr_jax.rollout.requests import EngineSettings, Request
from azr_jax.run.vocabulary_dropout import Dropout, droppable
from azr_jax.tasks.prompts import propose, render_proposal
from azr_jax.tasks.types import Kind, Proposal
from tests.learner.tiny_learner import SPEC

NANO = Path(__file__).parents[2] / "azr_jax/nano/base"
PROGRAM = "def f(x):\n    while x and not None:\n        x = [x[0] // 3, (x[1:], {1: -2.5})]\n    return x"


@pytest.fixture(scope="module")
def bpe():
    """Byte-level, as Qwen's and Llama's are: of this file's words, one special and one added."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    text = [Path(__file__).read_text(), " ".join(keyword.kwlist[:-5])] * 3
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(text, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    made.add_tokens(["<tool_call>"])
    return made


@pytest.fixture(scope="module", params=["nano", "bpe"])
def words(request, bpe):
    """(tokenizer, which of its tokens may be dropped)."""
    tokenizer = bpe if request.param == "bpe" else AutoTokenizer.from_pretrained(NANO)
    return tokenizer, droppable(tokenizer, len(tokenizer) + 20)


def test_what_no_program_and_no_form_can_do_without_stays(words):
    tokenizer, may_V = words
    needed = [*keyword.kwlist, *"()[]{}0123456789:=+-*/%<>.,'\"\n", "    ", "```", "\n```\n", "</answer>", "<think>"]
    needed += [f" {word}" for word in keyword.kwlist]
    for text in needed:
        assert not may_V[tokenizer.encode(text, add_special_tokens=False)].any(), text
    assert not may_V[[*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()]].any()
    assert not may_V[len(tokenizer) :].any(), "rows that fill the model's vocabulary up are no words"


def test_the_rest_of_the_words_may_go(words):
    tokenizer, may_V = words
    dropped = {tokenizer.decode([token]).strip() for token in np.flatnonzero(may_V)}
    assert {"list", "text"} <= dropped and all(any(c.isalpha() for c in word) for word in dropped)
    assert may_V.sum() > 100


@pytest.mark.parametrize("style", ["think", "completion"])
def test_a_proposal_can_still_be_written_in_its_form(words, style):
    """With every word gone that may go: the tags, fences and names of blocks of what the prompts ask for."""
    tokenizer, may_V = words
    answer = render_proposal(Proposal(Kind.DEDUCTION, PROGRAM, ("[1, 2]",)))
    message = render_proposal(Proposal(Kind.INDUCTION, PROGRAM, ("[1, 2]", "3"), ""))
    for text in (answer, message, f"<think>\n</think>\n<answer>\n{answer}\n</answer>"):
        gone = {tokenizer.decode([t]) for t in tokenizer.encode(text) if may_V[t]}
        assert not {word for word in gone if word.strip() not in ("x",)}, gone
    prompt = propose(Kind.DEDUCTION, [], style=style)
    assert not may_V[tokenizer.encode(prompt.prefix, add_special_tokens=False)].any()


def test_each_iteration_draws_its_own_words_and_the_same_ones_again():
    may_V = np.arange(20_000) % 2 == 0
    dropout = Dropout(may_V, 0.25, seed=7)
    first, second = dropout.of(1), dropout.of(2)
    assert not first[~may_V].any() and abs(first.sum() / may_V.sum() - 0.25) < 0.02
    # Of the words gone in one iteration a quarter is gone in the next: as many as by chance.
    assert abs((first & second).sum() / first.sum() - 0.25) < 0.04
    assert (Dropout(may_V, 0.25, seed=7).of(1) == first).all(), "a resumed run does without the same ones"
    assert (Dropout(may_V, 0.25, seed=8).of(1) != first).any()
    assert not Dropout(may_V, 0.0, seed=7).of(1).any()


@pytest.mark.slow
def test_sampler_learner_and_reference_policy_do_without_the_same_words():
    """A proposer without half of its words beside a solver with all of them, at a temperature, in one batch."""
    graph, params = nnx.split(random_model(SPEC, 0))
    params = jax.tree.map(lambda x: 3 * x, params)
    dropped_V = np.arange(SPEC.vocab) % 2 == 1
    sizes = EngineSettings(slots=4, max_prompt_tokens=8, max_new_tokens=12, page_size=8, prefill_tokens=8, limits=True)
    engine = Engine(graph, SPEC, sizes, seed=1)
    engine.load_weights(params, 1, dropped_V)
    for number, limited in enumerate((True, False)):
        engine.submit(Request(number, (4, 5, 6), 12, n=3, temperature=0.7, limited=limited))
    samples = [
        TrainingSample(r.request.prompt, r.tokens, r.sampler_logprobs, 1.0 - r.sample, limited=r.request.limited)
        for r in engine.drain()
    ]
    assert {s.limited for s in samples} == {True, False}
    assert all(s.limited != any(token % 2 for token in s.completion) for s in samples)

    settings = LearnerSettings(objective=Objective(kl=0.1), temperature=0.7)
    batch = pack(samples, 48, dropped_V=dropped_V)
    score, trained = make_score(graph, settings), np.asarray(batch.lengths) > 0

    def gap(limited):
        logprobs = score(params, None, replace(batch, limited=limited))
        return np.abs(logprobs - batch.sampler_logprobs)[trained]

    assert gap(batch.limited).max() < 1e-4
    # A learner that leaves nothing out, and one that leaves it out for the solver too, are of another policy.
    assert all(gap(limited).mean() > 0.1 for limited in (batch.limited & False, batch.limited | True))
    scored = replace(batch, reference_logprobs=score(params, None, batch))
    told = make_step(graph, settings)(init_state(params, settings), scored)[1]
    assert told["gap/max"] < 1e-4 and abs(told["kl"]) < 1e-6
