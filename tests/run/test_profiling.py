"""A trace is written of the iterations asked for, with the phases' names in it, and of no other."""

import gzip

import jax
import jax.numpy as jnp

from azr_jax.config.flags import load
from azr_jax.run.profiling import keep_compiled, phase, traced


def test_a_chosen_iteration_leaves_a_trace_that_names_its_phases(tmp_path):
    for iteration in (1, 2, 3):
        with traced(iteration, (2,), tmp_path), phase("a phase of its own"):
            jax.block_until_ready(jnp.ones(8) * iteration)
    assert [folder.name for folder in (tmp_path / "profile").iterdir()] == ["2"]
    traces = list((tmp_path / "profile").rglob("*.trace.json.gz"))
    assert traces
    assert "a phase of its own" in gzip.decompress(traces[0].read_bytes()).decode()


def test_the_field_takes_iterations_joined_by_commas():
    config, problems = load("configs/tiny.py", {"profile.steps": "2,3"})
    assert (config.profile.steps, problems) == ((2, 3), [])
    _, problems = load("configs/tiny.py", {"profile.steps": "0"})
    assert "profile.steps" in problems[0]


def test_compiled_programs_go_to_the_workdir_unless_the_user_said_where(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        keep_compiled(tmp_path)
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled")
        keep_compiled(tmp_path / "other")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_xla_is_given_no_folder_in_a_bucket(monkeypatch):
    """On a GPU it is, by JAX, one of autotuning below that of compiled programs, and ends there: it knows no gs://."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_enable_xla_caches")
    before = {name: jax.config.values[name] for name in names}
    try:
        for home, given in (("/folder", before[names[1]]), ("gs://bucket/run", "none")):
            jax.config.update(names[0], None)
            keep_compiled(home)
            assert [jax.config.values[name] for name in names] == [f"{home}/compiled", given]
        jax.config.update(names[1], "all")
        monkeypatch.setenv("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "all")
        keep_compiled("gs://bucket/run")
        assert jax.config.values[names[1]] == "all", "whoever asks for it by name gets it"
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
