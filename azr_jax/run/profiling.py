"""What JAX keeps of a run beside its numbers: compiled programs, and profiler traces of chosen iterations."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax


def keep_compiled(workdir: Path | str) -> None:
    """Programs that took a second or more to compile are kept in the workdir: a run that goes on compiles none of them.

    Where the user already says where (JAX_COMPILATION_CACHE_DIR), it stays so.
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", f"{workdir}/compiled")


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
