"""How completions end other than by their own length: stop strings, cancelling, NaN, callbacks that fail."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer

from azr_jax.models import source
from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.engine import Engine, EngineSettings, Request
from azr_jax.rollout.stops import LONGEST_PHRASE, Completing, cut_at_repetition, cut_at_stop_string

SPEC = ModelSpec("qwen2", 300, 32, 2, 4, 2, 8, 64, True)
POISON = 299  # its row of the embedding is NaN in the poisoned model


@pytest.fixture(scope="module")
def model():
    graph, params = nnx.split(random_model(SPEC, 0))
    return graph, jax.tree.map(lambda x: 4 * x, params)


def text_of(tokens) -> str:
    return "".join(chr(0x4E00 + token) for token in tokens)


def engine_of(model, params=None, decode_steps=8) -> Engine:
    sizes = {"slots": 4, "max_prompt_tokens": 100, "max_new_tokens": 40, "page_size": 8, "prefill_tokens": 32}
    engine = Engine(model[0], SPEC, EngineSettings(**sizes, decode_steps=decode_steps), seed=1, decode_text=text_of)
    engine.load_weights(model[1] if params is None else params, 3)
    return engine


def sample(engine: Engine, *wanted: Request) -> dict:
    for request in wanted:
        engine.submit(request)
    return {(r.request.id, r.sample): r for r in engine.drain()}


def test_a_stop_string_cuts_after_the_first_token_that_completes_it(model):
    engine = engine_of(model)
    free = sample(engine, Request(1, (5, 6, 7), 30))[1, 0]
    stop = text_of(free.tokens[9:11])
    at = text_of(free.tokens).index(stop) + len(stop)
    stopped = sample(engine, Request(1, (5, 6, 7), 30, stop_strings=(stop,)))[1, 0]
    assert (stopped.finish, stopped.tokens, stopped.logprobs) == ("stop", free.tokens[:at], free.logprobs[:at])


def test_a_stop_string_that_never_comes_changes_nothing(model):
    engine = engine_of(model)
    free = sample(engine, Request(1, (5, 6, 7), 30))[1, 0]
    other = sample(engine, Request(1, (5, 6, 7), 30, stop_strings=("never",)))[1, 0]
    assert (other.finish, other.tokens) == ("length", free.tokens)


def test_a_stop_string_counts_only_behind_what_has_to_come_first(model):
    """A thought that names the tag of the answer was cut there."""
    engine = engine_of(model)
    free = sample(engine, Request(1, (5, 6, 7), 30))[1, 0]
    said = text_of(free.tokens)
    early, after = said[3], said[9]
    late = said.index(early, said.index(after) + 1) + 1 if early in said[said.index(after) + 1 :] else None
    stopped = sample(engine, Request(1, (5, 6, 7), 30, stop_strings=(early, said[12]), stop_after=after))[1, 0]
    at = min(end for end in (late, said.index(said[12], said.index(after) + 1) + 1) if end)
    assert (stopped.finish, stopped.tokens) == ("stop", free.tokens[:at]) and at > 10


BYTES = 4  # number of the token of byte 0; what no token says is spelt in these, as Llama 2 and Gemma do
NEWLINE, EURO, SMILE = ([BYTES + byte for byte in sign.encode()] for sign in ("\n", "\u20ac", "\U0001f642"))
OTHER_WORDS = ["</", "answer", "wer", "er>x", ">", "\u2581>", ">>", "EN", "\u2581D", "b", "'", "\u20ac>"]
ALL_WORDS = ["<unk>", "\u2581", "a", "END", *(f"<0x{byte:02X}>" for byte in range(256)), *OTHER_WORDS]
VOCAB = {word: at for at, word in enumerate(ALL_WORDS)}


def one_word_or_bytes(text: str) -> list[int]:
    word = text.replace(" ", "\u2581")
    return [VOCAB[word]] if word in VOCAB else [BYTES + byte for byte in text.encode()]


@pytest.fixture(scope="module")
def spelt_in_bytes():
    tokenizer = Tokenizer(models.BPE(vocab=VOCAB, merges=[], byte_fallback=True, unk_token="<unk>"))
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)  # type: ignore[assignment]
    return tokenizer.decode


def end_of(decode, tokens, steps, stops, after) -> int | None:
    """Where the engine ends, if it takes in so many tokens at a time."""
    seen, looks, completing = 0, itertools.cycle(steps), Completing(decode)
    while seen < len(tokens):
        new = min(next(looks), len(tokens) - seen)
        seen += new
        if not completing.may_end(tokens[:seen], new, stops):
            continue
        found = cut_at_stop_string(decode, tokens[:seen], new, stops, after)
        if found is not None:
            return found
    return None


PIECES = st.sampled_from([[1], [2], [2], [3], NEWLINE, NEWLINE, EURO, EURO * 9, SMILE, SMILE[:1], EURO[:2], EURO[2:]])


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(PIECES, max_size=24).map(lambda pieces: [token for piece in pieces for token in piece]),
    stops=st.sampled_from([("\n",), ("END",), ("\u20ac\n", "\u20acEND"), ("\na", "END"), ("a a",)]),
    after=st.sampled_from(["", "", "\u20ac", "a"]),
)
def test_a_stop_string_in_single_bytes_ends_at_the_same_token_whatever_the_decode_steps(
    spelt_in_bytes, tokens, stops, after
):
    """A newline as a byte could not be read while the sign behind it was cut: then the next newline ended the text."""

    def holds(count):
        _, said, behind = spelt_in_bytes(tokens[:count]).partition(after) if after else ("", "", "")
        text = behind if after else spelt_in_bytes(tokens[:count])
        return bool(said or not after) and any(stop in text for stop in stops)

    expected = next((count for count in range(1, len(tokens) + 1) if holds(count)), None)
    ends = {steps: end_of(spelt_in_bytes, tokens, [steps], stops, after) for steps in (1, 8, 32)}
    assert ends == dict.fromkeys((1, 8, 32), expected)


def test_a_token_that_cannot_complete_a_stop_string_is_not_decoded_twice(spelt_in_bytes):
    decoded = []
    completing = Completing(lambda tokens: decoded.append(list(tokens)) or spelt_in_bytes(tokens))
    assert not any(completing.may_end([2, 2, 1], 3, ("END",)) for _ in range(3))
    assert completing.may_end([2, 3], 2, ("END",)) and not completing.may_end(EURO, 3, ("END",))
    assert completing.may_end(EURO[:1], 1, ("END\u20ac",))
    assert sorted(decoded) == sorted([[2], [1], [3], *([byte] for byte in EURO)])


class Codec(NamedTuple):
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    size: int


@pytest.fixture(
    scope="module",
    params=["in bytes", "nano:base", "Qwen/Qwen2.5-Coder-0.5B-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"],
)
def codec(request, spelt_in_bytes):
    if request.param == "in bytes":
        return Codec(one_word_or_bytes, spelt_in_bytes, len(VOCAB))
    folder = source.here(request.param)
    if folder is None:
        pytest.skip(f"{request.param} is not here")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Codec(lambda text: tokenizer.encode(text, add_special_tokens=False), tokenizer.decode, len(tokenizer))


STOPS = ["</answer>", "wer>", "END", "END b", "\n", "a b", " >", "\u20ac>", ">>", "\nQ:", "\U0001f642", "\ufffd"]
ANY_STOP = st.sampled_from(STOPS) | st.text("<>ab '\u20ac\n", min_size=1, max_size=5)
NOISE = [" ", "  ", "\n", "'", "x", "a </", "answer", ">", " >", "\u20ac", "\U0001f642", "\u3000", "\u4e2d\u6587"]


def spellings(codec: Codec, stops: tuple[str, ...]) -> st.SearchStrategy[list[int]]:
    """Tokens with these strings and parts of them, in pieces cut anywhere, and other things between."""

    def spelt(text: str, cuts: list[int], part: slice) -> list[int]:
        at = [0, *sorted(cut % len(text) for cut in cuts), len(text)]
        return [token for begin, end in itertools.pairwise(at) for token in codec.encode(text[begin:end])][part]

    parts = st.sampled_from([slice(None)] * 4 + [slice(1, None), slice(-1), slice(1), slice(-1, None)])
    pieces = st.builds(
        spelt, st.sampled_from(stops) | st.sampled_from(NOISE), st.lists(st.integers(0, 20), max_size=4), parts
    )
    some = st.integers(0, codec.size - 1).map(lambda token: [token])
    return st.lists(pieces | pieces | pieces | some, max_size=10).map(lambda all_: list(itertools.chain(*all_)))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.lists(ANY_STOP, min_size=1, max_size=2).map(tuple), st.lists(st.integers(1, 9), min_size=1))
def test_whatever_ends_a_text_is_not_thought_impossible(codec, data, stops, steps):
    tokens = data.draw(spellings(codec, stops))
    completing, seen, looks = Completing(codec.decode), 0, itertools.cycle(steps)
    while seen < len(tokens):
        new = min(next(looks), len(tokens) - seen)
        seen += new
        if cut_at_stop_string(codec.decode, tokens[:seen], new, stops) is not None:
            assert completing.may_end(tokens[:seen], new, stops)
            break


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        ("</answer>", ["</", "answer", ">"]),
        ("</answer>", "</answer>"),
        ("wer>", ["answer", ">"]),
        ("wer", ["</", "answer"]),
        (">", ["a", "er>x"]),
        ("a > b", ["a", " >", " ", "b"]),
        ("\u20ac>", ["a", "\u20ac", ">"]),
        ("a\u20ac>", ["a", "\u20ac>"]),
        ("b \n", ["b", " ", "\n"]),
        ("b ", ["b", " "]),
    ],
)
def test_what_the_last_token_completes_may_end_there(spelt_in_bytes, stop, words):
    tokens = [token for word in words for token in one_word_or_bytes(word)]
    assert stop in spelt_in_bytes(tokens) and stop not in spelt_in_bytes(tokens[:-1])
    assert Completing(spelt_in_bytes).may_end(tokens, 1, (stop,))


def test_a_readable_byte_that_makes_its_text_unreadable_may_end_it(spelt_in_bytes):
    tokens = [*EURO[:1], *NEWLINE]
    assert spelt_in_bytes(tokens) == "\ufffd\ufffd" and Completing(spelt_in_bytes).may_end(tokens, 1, ("\ufffd\ufffd",))


@pytest.mark.parametrize(
    "text", [">", "x>", "a ->", "b = a>>", "</b>", "answer>", " er >", "</an>", "</answers >", "</answer x>"]
)
def test_the_last_sign_behind_another_text_ends_nothing_and_no_text_is_decoded(codec, text):
    texts = []
    completing = Completing(lambda tokens: texts.append(len(tokens)) or codec.decode(tokens))
    tokens = [token for sign in text for token in codec.encode(sign)]
    for spelling in (codec.encode(text), tokens):
        assert not any(completing.may_end(spelling, new, ("</answer>", "END")) for new in range(1, len(spelling) + 1))
    assert set(texts) == {1} and len(texts) <= len({*codec.encode(text), *tokens})


@pytest.mark.parametrize("steps", [1, 8, 32])
def test_a_newline_that_is_a_byte_before_a_sign_in_bytes_stops(spelt_in_bytes, steps):
    assert end_of(spelt_in_bytes, [2, *NEWLINE, *EURO[:1]], [steps], ("\n",), "") == 2
    assert end_of(spelt_in_bytes, EURO * 40 + [*NEWLINE, 2], [steps], ("\n",), "") == 121


WORDS = st.lists(st.integers(0, 2), max_size=60) | st.lists(st.integers(0, 1), min_size=1, max_size=3).map(
    lambda x: x * 30
)


def repeats_itself(tokens: list[int], times: int) -> bool:
    return any(
        tokens[-size * times :] == tokens[-size:] * times
        for size in range(1, LONGEST_PHRASE + 1)
        if size * times <= len(tokens)
    )


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(WORDS, WORDS).map(lambda two: two[0] + two[1]), st.integers(2, 6), st.lists(st.integers(1, 9), min_size=1)
)
def test_a_repetition_is_found_at_its_first_end_however_many_tokens_come_at_a_time(tokens, times, steps):
    expected = next((end for end in range(1, len(tokens) + 1) if repeats_itself(tokens[:end], times)), None)
    found, seen, looks = None, 0, itertools.cycle(steps)
    while found is None and seen < len(tokens):
        new = min(next(looks), len(tokens) - seen)
        seen += new
        found = cut_at_repetition(tokens[:seen], new, times)
    assert found == expected


def test_a_completion_that_repeats_itself_ends_as_if_cut_whatever_the_decode_steps(model):
    """The device goes on a little; the host takes the completion back to where the repetition was complete."""
    ends = set()
    for decode_steps in (3, 8):
        engine = engine_of(model, decode_steps=decode_steps)
        wanted = [Request(number, (5, 6, 7), 40, top_k=2, temperature=9.0) for number in range(4)]
        for free in sample(engine, *wanted).values():
            at = next((end for end in range(1, 41) if repeats_itself(list(free.tokens[:end]), 3)), 40)
            request = replace(free.request, repetition_stop=3)
            stopped = sample(engine, request)[free.request.id, 0]
            assert stopped.tokens == free.tokens[:at] and stopped.truncated
            assert stopped.finish == ("repetition" if at < 40 else "length")
            ends.add((free.request.id, at))
    assert len(ends) == 4 and any(at < 40 for _, at in ends)
    with pytest.raises(ValueError, match=r"repetition_stop=1, should be 0 \(off\), or 2 or more"):
        engine.submit(Request(1, (5, 6, 7), 40, repetition_stop=1))


def test_nan_ends_its_own_request_and_no_other_even_in_reused_pages():
    untied = ModelSpec("qwen2", 300, 32, 2, 4, 2, 8, 64, False)
    graph, clean = nnx.split(random_model(untied, 0))
    clean = jax.tree.map(lambda x: 4 * x, clean)
    poisoned = jax.tree.map(lambda x: x, clean)
    poisoned["embed"][...] = clean["embed"][...].at[POISON].set(jnp.nan)
    sizes = {"slots": 2, "max_prompt_tokens": 60, "max_new_tokens": 20, "page_size": 8, "pages": 12}
    engine = Engine(graph, untied, EngineSettings(**sizes, prefill_tokens=16, decode_steps=4), seed=1)
    healthy = [Request(i, tuple(range(i, i + 25)), 12) for i in range(10, 16)]
    engine.load_weights(clean, 0)
    expected = {key: r.tokens for key, r in sample(engine, *healthy).items()}
    engine.load_weights(poisoned, 0)
    sick = [Request(i, (3,) * 30 + (POISON,) + (4,) * 10, 12) for i in range(3)]
    mixed = sample(engine, *[r for pair in zip(sick, healthy) for r in pair], *healthy[3:])
    nan = {key for key, r in mixed.items() if r.finish == "nan"}
    assert {(0, 0), (1, 0), (2, 0)} <= nan and engine.metrics()["nan"] == len(nan)
    for key, tokens in expected.items():
        if POISON not in tokens:
            assert mixed[key].tokens == tokens


def test_a_limit_the_cache_can_never_hold_is_refused(model):
    settings = EngineSettings(slots=2, max_prompt_tokens=100, max_new_tokens=40, page_size=8, pages=10)
    engine = Engine(model[0], SPEC, settings, seed=0)
    with pytest.raises(ValueError, match="at most 72"):
        engine.submit(Request(1, (5,) * 60, 20))


def test_begin_is_refused_while_something_is_under_way(model):
    engine = engine_of(model)
    engine.submit(Request(1, (5,), 5))
    with pytest.raises(RuntimeError, match="under way"):
        engine.load_weights(model[1], 4)
