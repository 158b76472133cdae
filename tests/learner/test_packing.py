"""Rows are dense, hold every sample once, and keep one shape."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.learner.packing import TrainingSample, best_fit, minibatches, pack, padding_share, row_length


def sample(prompt: int, completion: int, advantage: float = 1.0, start: int = 100) -> TrainingSample:
    tokens = list(range(start, start + prompt + completion))
    return TrainingSample(tokens[:prompt], tokens[prompt:], [-0.5] * completion, advantage)


def test_two_samples_in_one_row_token_by_token():
    batch = pack([sample(2, 2, 3.0, start=10), sample(1, 3, -1.0, start=20)], 8)
    row = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    row = {name: array[0, 0].tolist() for name, array in row.items() if array is not None}
    # The last token of a sample is predicted and never read.
    assert row["tokens"] == [10, 11, 12, 20, 21, 22, 0, 0]
    assert row["positions"] == [0, 1, 2, 0, 1, 2, 0, 0]
    assert row["segments"] == [1, 1, 1, 2, 2, 2, 0, 0]
    # Completion tokens stand at the front; position 1 (token 11) predicts 12, position 2 predicts 13.
    assert row["index"] == [1, 2, 3, 4, 5, 0, 0, 0]
    assert row["targets"] == [12, 13, 21, 22, 23, 0, 0, 0]
    assert row["owners"] == [1, 1, 2, 2, 2, 0, 0, 0]
    assert row["lengths"] == [2, 2, 3, 3, 3, 0, 0, 0]
    assert row["advantages"] == [3, 3, -1, -1, -1, 0, 0, 0]
    assert row["sampler_logprobs"] == [-0.5] * 5 + [0] * 3


def test_best_fit_fills_the_tightest_row_that_is_left():
    # 6 and 5 open rows of 10; 4 fits 6 exactly; then 3 and 2 fill the other.
    assert best_fit([2, 6, 3, 5, 4], 10) == [[1, 4], [3, 2, 0]]


@given(st.lists(st.integers(1, 50), max_size=60))
def test_best_fit_holds_everything_once_and_leaves_no_two_rows_that_would_fit_in_one(lengths):
    bins = best_fit(lengths, 50)
    assert sorted(index for bin in bins for index in bin) == list(range(len(lengths)))
    sums = sorted(sum(lengths[index] for index in bin) for bin in bins)
    assert all(total <= 50 for total in sums)
    assert len(sums) < 2 or sums[0] + sums[1] > 50


def lognormal(median: int, seed: int) -> list[TrainingSample]:
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(np.log(median), 0.8, 384), 20, 7900).astype(int)
    return [sample(200, int(length)) for length in lengths]


@pytest.mark.parametrize("median", [400, 1500])
def test_384_lognormal_rollouts_leave_at_most_five_percent_padding_in_rows_of_one_length(median):
    assert padding_share(pack(lognormal(median, 0), 8192)) <= 0.05


@pytest.mark.parametrize("rows", [2, 4, 8, 16])
@pytest.mark.parametrize("median", [400, 1500])
def test_384_lognormal_rollouts_leave_at_most_five_percent_padding_with_rows_side_by_side(median, rows):
    """Rows of one length leave up to 42 % here: the last microbatch is far from full. The row is the paper's."""
    shapes = set()
    for seed in range(6):
        batch = pack(lognormal(median, seed), 14336, rows=rows, row_lengths=32)
        assert padding_share(batch) <= 0.05, seed
        shapes.add(batch.tokens.shape)
    assert len(shapes) <= 6, "each is compiled once, and there can never be more than 32"
    assert all(shape[:2] == next(iter(shapes))[:2] and shape[2] % 128 == 0 for shape in shapes)


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=60), st.integers(1, 16), st.sampled_from([1, 2, 8, 32]))
def test_the_row_length_is_one_of_a_few_and_holds_the_longest(lengths, rows, choices):
    length = row_length(lengths, 4096, rows, choices)
    assert max(lengths) <= length <= 4096 and length in {-(-4096 * part // choices) for part in range(1, choices + 1)}
    assert length == 4096 or choices > 1


def test_coarse_row_lengths_come_first():
    # One row of 4096 holds four of 1000 and leaves 2.3 %: no need to be finer.
    assert row_length([1000] * 4, 4096, 1, 4) == 4096
    # Two side by side: four of 1024 leave half of them empty, but fill two rows of 2048.
    assert row_length([1024] * 4, 4096, 2, 4) == 2048


def test_the_shape_depends_on_the_number_of_samples_only():
    shapes = {pack([sample(1, n)] * 13, 64, rows=2).tokens.shape for n in range(1, 64)}
    assert shapes == {(8, 2, 64)}


def test_rows_side_by_side_cost_about_the_same():
    # Four rows of one long sample, four of many short ones: attention costs 64^2 against 8 x 8^2.
    batch = pack([*[sample(1, 64)] * 4, *[sample(1, 8)] * 32], 64, rows=4)
    per_row = batch.segments.max(-1)
    assert per_row[0].tolist() == [1] * 4 and per_row[1].tolist() == [8] * 4


def test_minibatches_deal_neighbours_out():
    samples = [sample(1, n) for n in (1, 2, 3, 0, 4, 5)]
    lengths = [[len(one.completion) for one in part] for part in minibatches(samples, 2)]
    assert lengths == [[1, 3, 5], [2, 4]]
    assert len(minibatches(samples, 9)) == 5, "none is empty"
    assert minibatches(samples, 1) == [samples]


def test_an_empty_completion_is_left_out():
    batch = pack([sample(3, 0), sample(2, 2)], 8)
    assert batch.segments.max() == 1 and (batch.lengths > 0).sum() == 2


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "samples: none given"),
        ([sample(3, 0), sample(2, 0)], "all 2 completions are empty"),
        (
            [sample(1, 1), sample(5, 5)],
            r"samples\[1\]: 5 prompt and 5 completion tokens .* row_tokens=8; .* at least 9",
        ),
        ([sample(0, 2)], r"samples\[0\].prompt is empty"),
        ([sample(1, 1, float("nan"))], r"samples\[0\].advantage=nan"),
        ([TrainingSample([1], [2, 3], [-1.0], 0.0)], r"sampler_logprobs: 1 for 2 completion"),
        ([TrainingSample([1], [2], [float("-inf")], 0.0)], r"sampler_logprobs: should all be finite"),
    ],
)
def test_bad_input_is_named(samples, message):
    with pytest.raises(ValueError, match=message):
        pack(samples, 8)
