"""What a user may set about running programs; the names of configs/base.py, and what only tests turn."""

from __future__ import annotations

from dataclasses import dataclass

from azr_jax.executor.hygiene import BANNED
from azr_jax.executor.jobs import LONGEST_S, SHORTEST_S


@dataclass(frozen=True)
class ExecutorSettings:
    timeout_s: float = 10.0  # wall-clock limit of one call
    memory_mb: int = 512  # of one program, beyond the interpreter's own
    workers: int = 0  # programs run side by side; 0: one per core
    queue: int = 4096  # jobs accepted and not finished, beyond which submit waits
    allow_weak: bool = False  # run even where the probe finds a hole
    max_output_chars: int = 4096  # of a task's output as Python text
    banned_modules: tuple[str, ...] = BANNED
    packages: tuple[str, ...] = ()  # installed ones that programs may import; those they need come with them
    namespaces: bool = True  # False: leave the namespaces out, as inside a container that forbids them

    def __post_init__(self) -> None:
        for name in ("memory_mb", "queue", "max_output_chars"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)}, a number above 0 would be right")
        if not SHORTEST_S <= self.timeout_s <= LONGEST_S:
            raise ValueError(f"timeout_s: {self.timeout_s}, {SHORTEST_S:g} to {LONGEST_S:.0f} s would be right")
        if self.workers < 0:
            raise ValueError(f"workers: {self.workers}, 0 (one per core) or more would be right")
