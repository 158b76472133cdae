"""Several processes in one: threads that talk over a store which behaves like that of JAX's coordination service."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax

from azr_jax.parallel.hosts import Hosts

PATIENCE_S = 60.0


class Store:
    def __init__(self):
        self.values, self.changed = {}, threading.Condition()

    def key_value_set_bytes(self, key: str, value: bytes, allow_overwrite: bool = False) -> None:
        with self.changed:
            if key in self.values and not allow_overwrite:
                raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {key}")
            self.values[key] = value
            self.changed.notify_all()

    def blocking_key_value_get_bytes(self, key: str, timeout_in_ms: int) -> bytes:
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.values, timeout_in_ms / 1e3):
                raise jax.errors.JaxRuntimeError(f"DEADLINE_EXCEEDED: {key}")
            return self.values[key]

    def key_value_delete(self, key: str) -> None:
        with self.changed:
            self.values = {name: value for name, value in self.values.items() if not name.startswith(key)}

    # As text, the way heartbeat.py uses it.

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        self.key_value_set_bytes(key, value.encode(), allow_overwrite)

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        with self.changed:
            return [(name, value.decode()) for name, value in self.values.items() if name.startswith(key)]


def in_each(count: int, work, store: Store | None = None) -> list:
    """`work(hosts)` in `count` threads at once; what each gave, or raised, in the order of the processes."""
    store = store or Store()

    def run(index: int):
        try:
            return work(Hosts(index, count, store))
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return [future.result(PATIENCE_S) for future in [threads.submit(run, index) for index in range(count)]]
