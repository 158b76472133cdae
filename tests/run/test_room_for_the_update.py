"""While the optimizer steps, the devices hold the learner's state and nothing else of weight.

A recipe that just fits a chip does so only if the sampler's weights and cache, and whatever a resumed run had built
before it read its checkpoint, are gone by then.
"""

import jax
import pytest

from azr_jax.config import flags as configs
from azr_jax.run import build
from azr_jax.run.train import train
from tests.run.test_whole_loop import ROOT, SEEDS


def bytes_of(arrays) -> int:
    """Of memory: two arrays may be views of one buffer, such as a sharded array and its only shard."""
    shards = (shard.data for array in arrays for shard in array.addressable_shards)
    return sum({shard.unsafe_buffer_pointer(): shard.nbytes for shard in shards}.values())


@pytest.fixture
def held(monkeypatch):
    """(bytes of all arrays that were not there before, bytes of the state) at every update."""
    make_update, found, before = build.make_update, [], {id(array): array for array in jax.live_arrays()}

    def watched(*args, **kwargs):
        update = make_update(*args, **kwargs)

        def look(state, batches):
            new = [array for array in jax.live_arrays() if id(array) not in before and not array.is_deleted()]
            found.append((bytes_of(new), bytes_of(jax.tree.leaves(state))))
            return update(state, batches)

        return look

    monkeypatch.setattr(build, "make_update", watched)
    return found


def test_only_the_learner_s_state_is_there_also_after_a_resume_and_a_fork(tmp_path, held, monkeypatch):
    monkeypatch.chdir(ROOT)
    flags = {"seeding.import_from": str(SEEDS), "iterations": "1"}
    for name, iterations, fork_from in (("run", "1", None), ("run", "2", None), ("fork", "1", tmp_path / "run")):
        config, problems = configs.load("configs/tiny.py", flags | {"iterations": iterations})
        assert not problems
        train(config, str(tmp_path / name), recipe="tiny", again="the same", fork_from=fork_from and str(fork_from))
    assert len(held) == 3
    for everything, state in held:
        assert everything < 1.01 * state
