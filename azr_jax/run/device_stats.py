"""What JAX says about the machine, as numbers for timings.jsonl: programs compiled, memory of the first device."""

from __future__ import annotations

from functools import cache

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Counts what this process compiles, whoever asks for it; a restart from the compilation cache counts too."""

    def __init__(self) -> None:
        self._count, self._seconds = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: object) -> None:
        if event == COMPILED:
            self._count += 1
            self._seconds += duration_secs

    def taken(self) -> dict[str, float]:
        """Since the last call."""
        found = {"system/compilations": float(self._count), "system/compile_s": self._seconds}
        self._count, self._seconds = 0, 0.0
        return found


@cache
def compilations() -> Compilations:
    """One for the process: JAX keeps its listeners for good."""
    return Compilations()


def memory_of_one() -> float | None:
    """Bytes that this run may use of a device: the same on all, as slices are. None where it does not say."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def device_memory() -> dict[str, float]:
    """Nothing where the device does not say, as the CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    names = {"bytes_in_use": "system/device_mb", "peak_bytes_in_use": "system/device_peak_mb"}
    return {ours: stats[theirs] / 1e6 for theirs, ours in names.items() if theirs in stats}
