"""What prompts have in common is read once, and the gradient is the one of reading it every time."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_learner import SPEC

from azr_jax.learner import prefixes
from azr_jax.learner.packing import TrainingSample, pack
from azr_jax.learner.step import LearnerSettings, init_state, make_score, make_step

ROW = 64


def sample(prompt: list[int], completion: list[int], advantage: float = 1.0) -> TrainingSample:
    return TrainingSample(prompt, completion, [-4.0] * len(completion), advantage)


def attempts(seed: int = 0) -> list[TrainingSample]:
    """Two tasks of one kind, whose prompts begin alike, four attempts at the one and three at the other; one more."""
    random = np.random.default_rng(seed)
    draw = lambda count: random.integers(0, SPEC.vocab, count).tolist()  # noqa: E731
    start = draw(6)
    prompts = [[*start, *draw(5)]] * 4 + [[*start, *draw(9)]] * 3 + [draw(7)]
    return [sample(prompt, draw(random.integers(1, 9)), float(random.normal())) for prompt in prompts]


def test_three_samples_in_one_row_token_by_token():
    one, other, longer = sample([7, 8], [1, 2]), sample([7, 8], [3]), sample([7, 9, 9], [4, 5])
    batch = pack([longer, one, other], 8, share=True)
    row = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    row = {name: array[0, 0].tolist() for name, array in row.items() if array is not None}
    # 7 8 1 of the first; the second reads nothing new (its only answer token is only predicted); 9 9 4 of the third.
    assert row["tokens"] == [7, 8, 1, 9, 9, 4, 0, 0]
    assert row["positions"] == [0, 1, 2, 1, 2, 3, 0, 0]
    assert row["segments"] == [1, 1, 1, 3, 3, 3, 0, 0]
    # 7 is seen by all three, 8 by the first two.
    assert row["ends"] == [3, 2, 1, 3, 3, 3, 0, 0]
    # Token 8 predicts the beginnings of two answers.
    assert row["index"] == [1, 2, 1, 4, 5, 0, 0, 0]
    assert row["targets"] == [1, 2, 3, 4, 5, 0, 0, 0]
    assert row["owners"] == [1, 1, 2, 3, 3, 0, 0, 0]


def test_a_row_is_full_when_its_answers_are_even_where_nothing_more_is_read():
    assert prefixes.rows([([5], [6])] * 10, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=6), st.lists(st.integers(0, 9), min_size=1,
    max_size=4)), min_size=1, max_size=20)
)  # fmt: skip
def test_every_sample_finds_its_own_tokens_in_its_row_and_nobody_elses(given_samples):
    made = [sample([token + 1 for token in prompt], completion) for prompt, completion in given_samples]
    batch = pack(made, 12, share=True)
    found = []
    for tokens, positions, segments, ends, index, targets, owners in zip(
        *(a.reshape(-1, 12) for a in (batch.tokens, batch.positions, batch.segments, batch.ends, batch.index,
        batch.targets, batch.owners)), strict=True,
    ):  # fmt: skip
        for segment in range(1, owners.max() + 1):
            seen = (segments > 0) & (segments <= segment) & (segment <= ends)
            assert positions[seen].tolist() == list(range(seen.sum()))  # in order, each position once
            own = owners == segment
            size = seen.sum() + 1 - own.sum()
            assert (positions[index[own]] == size - 1 + np.arange(own.sum())).all()
            assert seen[index[own]].all()
            found.append((tokens[seen][:size].tolist(), targets[own].tolist()))
            assert tokens[seen][size:].tolist() == targets[own][:-1].tolist()
    assert sorted(found) == sorted((list(one.prompt), list(one.completion)) for one in made)


def test_reading_once_is_less_than_reading_every_time():
    made = attempts()
    read = (pack(made, ROW, share=True).segments > 0).sum()
    # 6 + 5 + 9 + 7 prompt tokens, and of each answer all but the last.
    assert read == 27 + sum(len(one.completion) - 1 for one in made)


def gradient(parted, made, how, **options):
    graphdef, params = parted
    learner = LearnerSettings(**options)
    fresh = jax.tree.map(lambda leaf: leaf.copy(), params)
    state, metrics = make_step(graphdef, learner)(init_state(fresh, learner), pack(made, ROW, **how))
    return jax.device_get(state.optimizer[0].mu), jax.device_get(metrics)


@pytest.mark.parametrize("remat", ["none", "dots"])
def test_the_gradient_is_that_of_prompts_read_every_time(parted, remat):
    made = attempts()
    apart, metrics = gradient(parted, made, {}, remat=remat)
    shared, others = gradient(parted, made, {"share": True}, remat=remat)
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(apart))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale), shared, apart)
    for name in ("loss", "entropy", "gap/mean", "gradient/norm", "tokens/trained"):
        assert others[name] == pytest.approx(metrics[name], rel=1e-5), name
    assert others["tokens/read"] < metrics["tokens/read"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nobody_sees_what_others_wrote(parted, seed):
    """Each sample's log-probabilities are those it has alone in a row."""
    graphdef, params = parted
    made = attempts(seed)
    score = make_score(graphdef, LearnerSettings())

    def logprobs(batch) -> list[float]:
        return np.asarray(score(params, None, batch))[batch.lengths > 0].tolist()

    alone = sorted(value for one in made for value in logprobs(pack([one], ROW)))
    np.testing.assert_allclose(sorted(logprobs(pack(made, ROW, share=True))), alone, atol=2e-5)


@pytest.mark.parametrize("backend", ["cudnn", "splash"])
def test_a_kernel_that_knows_no_shared_prompts_says_so(parted, backend):
    with pytest.raises(ValueError, match=f"attention='{backend}': .*shared prompts"):
        gradient(parted, attempts(), {"share": True}, attention=backend)
