"""Checkpoints: exact, atomic, movable to other devices, and honest about what is wrong with them."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_learner import SPEC, make_samples

from azr_jax.learner.checkpoint import Checkpointer, CheckpointError, Mismatch, written_bytes
from azr_jax.learner.lora import Trained, merged
from azr_jax.learner.optimizer import OptimizerSettings
from azr_jax.learner.packing import pack
from azr_jax.learner.step import LearnerSettings, init_state, make_step
from azr_jax.models.sharding import LearnerRules, abstract_params, shardings
from azr_jax.models.transformer import Transformer
from azr_jax.parallel.mesh import make_mesh
from azr_jax.storage.errors import StorageError
from tests.parallel.one_store import in_each

SETTINGS = LearnerSettings(optimizer=OptimizerSettings("adamw_bf16", lr=1e-2))
EXTRA = {"iteration": 3, "buffers": {"deduction": {"cursor": 120, "checksum": "9f"}}, "config": {"seed": 0}}


def new_state(settings=SETTINGS):
    return init_state(nnx.split(Transformer(SPEC, rngs=nnx.Rngs(0)))[1], settings)


def shapes(settings=SETTINGS):
    return jax.eval_shape(lambda: new_state(settings))


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_a_run_that_was_restored_goes_on_bit_by_bit(parted, tmp_path):
    graphdef, _ = parted
    step = make_step(graphdef, SETTINGS)
    batches = [pack(make_samples(13, seed=seed), 48) for seed in range(4)]
    state = new_state()
    checkpointer = Checkpointer(tmp_path)
    for number, batch in enumerate(batches):
        if number == 2:  # goes on at once: what is being written must not be what the next step overwrites
            checkpointer.save(2, state, EXTRA)
        state, _ = step(state, batch)
    checkpointer.close()

    restored = Checkpointer(tmp_path).restore(shapes())
    assert (restored.iteration, restored.extra) == (2, EXTRA)
    again = restored.state
    for batch in batches[2:]:
        again, _ = step(again, batch)
    assert_same(again, state)


def moments_of(state):
    return [leaf for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim]


def test_moments_in_bfloat16_make_a_checkpoint_a_third_smaller_and_cost_a_thousandth_of_the_next_update(
    parted, tmp_path
):
    """Written in 8 bits of mantissa: each moment is off by 1/512 at the most, the second one's root by half of that."""
    graphdef, _ = parted
    settings = LearnerSettings(optimizer=OptimizerSettings("adamw", lr=1e-2))
    step = make_step(graphdef, settings)
    state = new_state(settings)
    for seed in range(3):
        state, _ = step(state, pack(make_samples(13, seed=seed), 48))
    for moments in ("same", "bfloat16"):
        checkpointer = Checkpointer(tmp_path / moments, moments=moments)
        checkpointer.save(3, state, EXTRA)  # and the state goes on as it was
        checkpointer.close()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert written_bytes(state) == 12 * parameters + 5 * 4  # five counters
    assert written_bytes(shapes(settings), "bfloat16") == 8 * parameters + 5 * 4
    on_disk = {path.name: sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in tmp_path.iterdir()}
    assert on_disk["bfloat16"] < 0.75 * on_disk["same"]

    restored = Checkpointer(tmp_path / "bfloat16").restore(shapes(settings)).state  # told by the checkpoint alone
    assert_same(restored.params, state.params)
    rounded = jax.tree.map(lambda a: a.astype(jnp.bfloat16).astype(a.dtype) if a.ndim else a, state.optimizer)
    assert_same(restored.optimizer, rounded)
    assert all(leaf.dtype == jnp.float32 for leaf in moments_of(restored))

    before = jax.tree.map(np.asarray, state.params)
    batch = pack(make_samples(13, seed=3), 48)
    after = [step(one, batch)[0].params for one in (state, restored)]
    exact, other = (jax.tree.map(lambda a, b: np.asarray(a) - b, one, before) for one in after)
    squares = [
        sum(float(np.square(leaf).sum()) for leaf in jax.tree.leaves(t)) for t in (exact, difference(exact, other))
    ]
    assert 0 < (squares[1] / squares[0]) ** 0.5 < 2e-3


def difference(one, other):
    return jax.tree.map(lambda a, b: a - b, one, other)


def test_a_rounded_checkpoint_is_still_of_one_optimizer_and_still_shows_a_byte_that_changed(eight_devices, tmp_path):
    settings = LearnerSettings(optimizer=OptimizerSettings("adamw", lr=1e-2))
    random = np.random.default_rng(0)
    noisy = lambda a: a + jnp.asarray(random.random(a.shape), a.dtype) if a.ndim else a  # noqa: E731
    state = jax.tree.map(noisy, new_state(settings))
    for number in (1, 2):
        checkpointer = Checkpointer(tmp_path, moments="bfloat16")
        checkpointer.save(number, state, {})
        checkpointer.close()
    with pytest.raises(Mismatch, match=r"optimizer.0.mu.embed.* is float32\[64, 32\] there, .*bfloat16"):
        Checkpointer(tmp_path).restore(shapes(SETTINGS))  # adamw_bf16: another optimizer
    mesh = make_mesh(4, 2, devices=eight_devices)
    with jax.set_mesh(mesh):
        params = jax.device_put(jax.tree.map(jnp.zeros_like, state.params), shardings(SPEC, mesh, LearnerRules()))
        like = init_state(params, settings)
        spread = Checkpointer(tmp_path).restore(like).state
        for a, b in zip(moments_of(spread), moments_of(like), strict=True):
            assert a.sharding.is_equivalent_to(b.sharding, a.ndim) and a.dtype == jnp.float32
    files = [path for path in (tmp_path / "checkpoints" / "2" / "learner").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2 :: 997] = b"!" * len(data[len(data) // 2 :: 997])
    largest.write_bytes(data)
    assert Checkpointer(tmp_path).restore(shapes(settings)).iteration == 1


def test_the_last_ones_and_every_mth_are_kept(tmp_path):
    checkpointer, state = Checkpointer(tmp_path, keep=2, keep_every=4), {"w": jnp.ones(3)}
    state = init_state(state, SETTINGS)
    for iteration in range(1, 8):
        checkpointer.save(iteration, state, {})
    checkpointer.wait()
    assert checkpointer.iterations() == [4, 6, 7]
    # A run that went back to 4 (the later ones were damaged, say) drops the future it gave up.
    checkpointer.save(5, state, {})
    checkpointer.wait()
    assert checkpointer.iterations() == [4, 5]
    checkpointer.close()


def test_a_state_moves_to_a_mesh_and_back(eight_devices, tmp_path):
    state = new_state()
    saved = Checkpointer(tmp_path)
    saved.save(1, state, {})
    saved.close()
    mesh = make_mesh(4, 2, devices=eight_devices)
    with jax.set_mesh(mesh):
        like = init_state(
            jax.device_put(jax.tree.map(jnp.zeros_like, state.params), shardings(SPEC, mesh, LearnerRules())), SETTINGS
        )
        spread = Checkpointer(tmp_path).restore(like).state
        assert spread.params["layers"]["q"][...].sharding == like.params["layers"]["q"][...].sharding
        assert_same(spread, state)
        moved = Checkpointer(tmp_path / "moved")
        moved.save(1, spread, {})
        moved.close()
    assert_same(Checkpointer(tmp_path / "moved").restore(shapes()).state, state)


def test_the_policy_alone_for_export(eight_devices, tmp_path):
    state = new_state()
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, state, {})
    checkpointer.close()
    assert_same(Checkpointer(tmp_path).restore_params(abstract_params(SPEC)), state.params)
    mesh = make_mesh(8, 1, devices=eight_devices)
    layout = shardings(SPEC, mesh, LearnerRules())
    like = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract_params(SPEC), layout)
    spread = Checkpointer(tmp_path).restore_params(like, 1)
    assert spread["embed"][...].sharding == layout["embed"].get_value()
    assert_same(spread, state.params)


@pytest.mark.parametrize("trained", [Trained(rank=2, targets=("q", "down")), Trained(freeze=("embed",))])
def test_the_policy_alone_is_whole_where_only_a_part_was_trained(eight_devices, tmp_path, trained):
    settings = LearnerSettings(trained=trained)
    state = new_state(settings)
    if trained.rank:
        state.params["q"]["b"] = jnp.full_like(state.params["q"]["b"], 0.1)
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, state, {})
    checkpointer.close()
    assert_same(Checkpointer(tmp_path).restore(shapes(settings)).state, state)
    assert_same(Checkpointer(tmp_path).restore_params(abstract_params(SPEC)), merged(state.params, state.base))
    # And laid out over devices, as an export does, with no mesh set.
    layout = shardings(SPEC, make_mesh(4, 2, devices=eight_devices), LearnerRules())
    like = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract_params(SPEC), layout)
    spread, whole = Checkpointer(tmp_path).restore_params(like), merged(state.params, state.base)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-6), spread, whole)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    state = new_state()
    checkpointer = Checkpointer(tmp_path)
    for iteration in (1, 2):
        checkpointer.save(iteration, state, {"iteration": iteration})
    checkpointer.close()
    files = [path for path in (tmp_path / "checkpoints" / "2").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    for damage in (whole[: len(whole) // 2], bytes([*whole[:-2000], whole[-2000] ^ 4, *whole[-1999:]])):
        largest.write_bytes(damage)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            restored = Checkpointer(tmp_path).restore(shapes())
        assert restored.iteration == restored.extra["iteration"] == 1
        assert any("checkpoint 2" in message and "damaged and passed over" in message for message in caplog.messages)
    with pytest.raises(CheckpointError, match="every checkpoint asked for is damaged: 2"):
        Checkpointer(tmp_path).restore(shapes(), 2)


def test_a_checkpoint_whose_cursors_changed_is_damaged(tmp_path):
    """They have no digest of their own kind: a run went on with another cursor in its buffers."""
    checkpointer = Checkpointer(tmp_path)
    for iteration in (1, 2):
        checkpointer.save(iteration, new_state(), {"buffers": {"error": (10, iteration)}, "seen": {3: 0.1}})
    checkpointer.close()
    (file,) = (path for path in (tmp_path / "checkpoints" / "2" / "extra").iterdir() if b"buffers" in path.read_bytes())
    file.write_bytes(file.read_bytes().replace(b"10", b"18"))
    restored = Checkpointer(tmp_path).restore(shapes())
    assert restored.iteration == 1 and restored.extra == {"buffers": {"error": [10, 1]}, "seen": {"3": 0.1}}


@pytest.mark.parametrize("lost", ["params", "params/_METADATA", "learner/_METADATA"])
def test_a_checkpoint_that_lost_a_list_of_arrays_is_no_other_models(tmp_path, lost):
    """It was taken for that of another model, and the one before was not looked at."""
    checkpointer = Checkpointer(tmp_path)
    for iteration in (1, 2):
        checkpointer.save(iteration, new_state(), {})
    checkpointer.close()
    path = tmp_path / "checkpoints" / "2" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert Checkpointer(tmp_path).restore(shapes()).iteration == 1
    Checkpointer(tmp_path).restore_params(abstract_params(SPEC))


def test_a_bucket_that_does_not_answer_says_nothing_of_its_checkpoints(tmp_path, monkeypatch):
    """The newest was passed over as damaged, and deleted at the next save."""
    checkpointer = Checkpointer(tmp_path)
    for iteration in (1, 2):
        checkpointer.save(iteration, new_state(), {})
    read = checkpointer._json

    def away(iteration, item):
        if iteration == 2:
            raise StorageError("gs://bucket/run: read it: 503", passing=True)
        return read(iteration, item)

    monkeypatch.setattr(checkpointer, "_json", away)
    with pytest.raises(StorageError):
        checkpointer.restore(shapes())
    checkpointer.close()


def test_who_only_reads_leaves_what_another_process_is_writing(tmp_path):
    """A report or an export of a live run once deleted the checkpoint it was in the middle of writing."""
    state = new_state()
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, state, {"iteration": 1})
    checkpointer.close()
    half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "params").write_text("half of it")
    reader = Checkpointer(tmp_path)
    assert reader.iterations() == [1] and reader.restore(shapes()).iteration == 1
    reader.restore_params(abstract_params(SPEC))
    reader.close()
    assert (half / "params").read_text() == "half of it"
    # The run itself, resumed after a kill, clears it away when it saves.
    writer = Checkpointer(tmp_path)
    assert writer.restore(shapes()).iteration == 1
    writer.save(2, state, {"iteration": 2})
    writer.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1", "2"]


def test_who_only_reads_makes_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        Checkpointer(tmp_path).restore(shapes())
    assert not (tmp_path / "checkpoints").exists()


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        Checkpointer(tmp_path).restore(shapes())
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(3, new_state(), {})
    checkpointer.close()
    with pytest.raises(CheckpointError, match=r"no checkpoint of iteration 4; there are \[3\]"):
        Checkpointer(tmp_path).restore(shapes(), 4)
    other = "another model, optimizer or set of trained weights"
    with pytest.raises(Mismatch, match=rf"optimizer.0.mu.embed.* is bfloat16\[64, 32\] there, .*float32.*{other}"):
        Checkpointer(tmp_path).restore(shapes(LearnerSettings()))
    with pytest.raises(Mismatch, match=r"params: embed is absent there, and should be float32\[3, 3\]"):
        Checkpointer(tmp_path).restore(init_state({"embed": jnp.ones((3, 3))}, SETTINGS))


SAVER = """
    import sys
    import jax.numpy as jnp
    from azr_jax.learner.checkpoint import Checkpointer
    from azr_jax.learner.step import LearnerSettings, init_state
    checkpointer, like = Checkpointer(sys.argv[1]), init_state({"w": jnp.zeros(200_000)}, LearnerSettings())
    iteration = checkpointer.restore(like).iteration if checkpointer.iterations() else 0
    print(f"resumed {iteration}", flush=True)
    while True:
        iteration += 1
        state = init_state({"w": jnp.full(200_000, float(iteration))}, LearnerSettings())
        checkpointer.save(iteration, state, {"iteration": iteration})
        checkpointer.wait()
        print(f"saved {iteration}", flush=True)
"""


@pytest.mark.slow
def test_twenty_kills_while_saving_lose_nothing_that_was_saved(tmp_path):
    random, saved = np.random.default_rng(0), 0
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for _ in range(20):
        command = [sys.executable, "-c", textwrap.dedent(SAVER), str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        assert first, process.stderr.read()
        assert int(first.split()[1]) >= saved  # one more is possible: complete, and killed before it was told
        time.sleep(random.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        lines = process.communicate()[0].splitlines()
        saved = max([saved, *(int(line.split()[1]) for line in lines if line.startswith("saved"))])
    like = init_state({"w": jnp.zeros(200_000)}, LearnerSettings())
    restored = Checkpointer(tmp_path).restore(like)
    assert restored.iteration >= saved > 0
    assert set(np.asarray(restored.state.params["w"]).tolist()) == {float(restored.iteration)}


def test_all_processes_take_the_checkpoint_that_the_first_one_names(tmp_path, monkeypatch):
    """After a rollback a process that still sees the folder that was dropped would go on from another iteration."""
    checkpointer = Checkpointer(tmp_path)
    for number in (1, 2):
        checkpointer.save(number, new_state(), {"iteration": number})
    checkpointer.close()

    def restored(hosts):
        mine = Checkpointer(tmp_path, hosts=hosts)
        monkeypatch.setattr(mine, "iterations", lambda: [1] if hosts.first else [1, 2])
        try:
            return mine.restore(shapes()).extra["iteration"]
        finally:
            mine.close()

    assert in_each(2, restored) == [1, 1]
