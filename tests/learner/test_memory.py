"""The compiled step's memory does not grow with vocabulary x sequence, by the compiler's own account."""

from dataclasses import replace

import jax
from flax import nnx
from tiny_learner import SPEC

from azr_jax.learner.packing import TrainingSample, pack
from azr_jax.learner.step import LearnerSettings, init_state, step_program
from azr_jax.models.transformer import Transformer


def temporary(vocab: int, row: int) -> int:
    spec = replace(SPEC, vocab=vocab, depth=1, max_positions=4096)
    graphdef, params = nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0))))
    settings = LearnerSettings(remat="full", chunk=16)
    state = jax.eval_shape(lambda: init_state(params, settings))
    batch = pack([TrainingSample([1, 1], [1] * (row - 1), [-1.0] * (row - 1), 1.0)], row)
    return step_program(graphdef, settings).lower(state, batch).compile().memory_analysis().temp_size_in_bytes


def test_no_array_is_of_all_tokens_and_all_words():
    small, large, short, long = 4096, 65536, 128, 1024
    # Each may grow alone: gradients and a chunk's logits with the vocabulary, hidden states with the row.
    by_vocab = temporary(large, short) - temporary(small, short)
    by_both = temporary(large, long) - temporary(small, long)
    logits = 4 * (large - small) * (long - short)
    assert by_both - by_vocab < 0.02 * logits
