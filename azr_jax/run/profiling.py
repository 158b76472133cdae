"""What JAX keeps of a run beside its numbers: compiled programs, and profiler traces of chosen iterations."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax


def keep_compiled(workdir: Path | str) -> None:
    """Programs that took a second or more to compile are kept in the workdir: a run that goes on compiles none of them.

    Where the user already says where (JAX_COMPILATION_CACHE_DIR), it stays so. Several processes of CPUs keep none: the
    first would load what the others compile, for what is kept there has a key for each process and the first alone
    writes, and a loaded program exchanges in another order than a compiled one. gloo ends both.
    """
    if jax.process_count() > 1 and jax.default_backend() == "cpu":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", f"{workdir}/compiled")
    # On a GPU JAX gives XLA a folder below it for autotuning, and XLA itself knows no buckets: the first compile fails.
    in_a_bucket = "://" in jax.config.values["jax_compilation_cache_dir"]
    if in_a_bucket and "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES" not in os.environ:
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


@contextmanager
def traced(iteration: int, chosen: Collection[int], workdir: Path) -> Iterator[None]:
    """Writes a trace of a chosen iteration to profile/<iteration>, for TensorBoard's profiler, XProf or Perfetto."""
    if iteration not in chosen:
        yield
        return
    with (
        jax.profiler.trace(str(workdir / "profile" / str(iteration))),
        jax.profiler.StepTraceAnnotation("iteration", step_num=iteration),
    ):
        yield


def phase(name: str) -> jax.profiler.TraceAnnotation:
    """A named stretch of the host's time in a trace; next to nothing where none is taken."""
    return jax.profiler.TraceAnnotation(name)
