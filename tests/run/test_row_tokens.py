"""A row has room for the longest sample; on TPU it is whole tiles of 128, or splash attention would refuse it."""

from azr_jax.config.flags import load, replaced
from azr_jax.run.settings import row_tokens


def test_the_paper_s_6144_and_8096_tokens_are_14240_and_on_tpu_112_tiles():
    config, _ = load("configs/qwen7b.py", {})
    assert row_tokens(config, "cpu") == 14240
    assert row_tokens(config, "tpu") == 14336 == 112 * 128
    config = replaced(config, "learner.row_tokens", 2000)
    assert (row_tokens(config, "cpu"), row_tokens(config, "tpu")) == (2000, 2048)
