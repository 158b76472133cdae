"""The processes of one run: how they find each other, and how they tell each other things.

All run the same program with the same flags, and what they compute together needs every one of them to ask for it in
the same order. So nothing that only one of them can know may decide what comes next: not which verdicts are in, not
what is on the disk, not a signal. Such things go through here:

    with joined("10.0.0.1:8476", processes=4, process=2, dead_after_s=60) as hosts:
        hosts.gather(mine)       # everyone's, in the order of the processes: the same list in all of them
        hosts.from_first(make)   # what the first process made

It is told as JSON over the key-value store of JAX's coordination service, not by a collective of devices: that would
queue up behind the tokens being decoded, and the host would wait for them. The first process collects and hands out,
so all act on one list. One process tells nobody and waits for nobody. Who notices that a process is gone: heartbeat.py.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax._src import distributed  # the key-value store has no public name; Orbax takes it from here too

from azr_jax.parallel.heartbeat import Heartbeat, LastWords

T = TypeVar("T")
ANSWER_WITHIN_MS = 5_000  # then it asks again, so that signals are heard in between
JAX_LATER_S = 100  # than heartbeat.py, JAX notices by itself that a process is gone
TPU_CHIPS = ("accel*", "vfio/[0-9]*")  # in /dev


class CannotJoin(ValueError):
    """The processes cannot find each other the way they were asked to."""


class Hosts:
    """All processes of a run, as seen by one of them. `Hosts()` is a run of one process."""

    def __init__(self, index: int = 0, count: int = 1, store: Any = None):
        self.index, self.count, self._store = index, count, store
        self.names = ["this process"]
        self.wish = 0  # what this process asks of all (run/signals.py); may be set in a signal handler
        self._agreed = 0
        self._numbers = itertools.count()
        if count > 1:
            self.names = self.gather(f"process {index} ({socket.gethostname()}, pid {os.getpid()})")

    @property
    def first(self) -> bool:
        """This is the process that writes and speaks."""
        return self.index == 0

    @property
    def agreed(self) -> int:
        """The most that any process wished for when things were told the last time: the same in all of them."""
        return self._agreed if self.count > 1 else self.wish

    def gather(self, mine: object = None) -> list[Any]:
        """Everyone's `mine`, which must be JSON. Called by all, in the same order, from one thread."""
        if self.count == 1:
            return [mine]
        told = self._told({"wish": self.wish, "mine": mine})
        self._agreed = max(one["wish"] for one in told)
        return [one["mine"] for one in told]

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, which alone calls it. JSON."""
        return self.gather(make() if self.first else None)[0]

    def _told(self, mine: object) -> list[Any]:
        number, text = next(self._numbers), json.dumps(mine).encode()
        if not self.first:
            self._store.key_value_set_bytes(f"azr_jax/told/{number}/{self.index}", text)
            return json.loads(self._wait_for(f"azr_jax/told/{number}/all"))
        others = [self._wait_for(f"azr_jax/told/{number}/{index}") for index in range(1, self.count)]
        whole = b"[" + b",".join([text, *others]) + b"]"
        self._store.key_value_set_bytes(f"azr_jax/told/{number}/all", whole)
        if number:  # everyone has told this, so everyone has read what was told before
            self._store.key_value_delete(f"azr_jax/told/{number - 1}/")
        return json.loads(whole)

    def _wait_for(self, key: str) -> bytes:
        """For as long as it takes: that somebody is gone is noticed elsewhere, and ends this process."""
        while True:
            try:
                return self._store.blocking_key_value_get_bytes(key, ANSWER_WITHIN_MS)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise


@contextmanager
def joined(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    join_timeout_s: int,
    dead_after_s: float,
    alike: type[Exception],
    code_of: Callable[[BaseException], int | None] = lambda error: None,
) -> Iterator[Hosts]:
    """The processes of this run, once all are there. Without addresses: those of the TPU slice, or this one alone.

    Inside, a process that is gone for `dead_after_s`, or that ends with an exception, ends this one too. Exceptions of
    the type `alike` are those that all processes raise together, and just pass. `code_of` gives the exit code for what
    a user is told in one line, and none where a traceback is due.
    """
    asked = (coordinator, processes, process) != (None, None, None)
    if asked:
        _check(coordinator, processes, process)
    elif not on_tpu():
        yield Hosts()
        return
    words = LastWords(coordinator or "", f"within --join_timeout_s={join_timeout_s}")
    # The service would take SIGTERM for itself, and it is run/signals.py that answers it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=join_timeout_s,
            heartbeat_timeout_seconds=int(dead_after_s) + JAX_LATER_S,
        )
    except ValueError as error:
        words.withdraw()
        if asked:
            raise CannotJoin(str(error)) from error
        yield Hosts()  # a TPU machine that belongs to no slice, as behind a notebook
        return
    state = distributed.global_state
    hosts = Hosts(state.process_id, state.num_processes, state.client)
    words.joined(state.coordinator_address or "", hosts.names[0])
    heartbeat = Heartbeat(state.client, hosts.index, hosts.names, dead_after_s)
    try:
        yield hosts
    except alike:
        raise
    except BaseException as error:
        heartbeat.end_with(error, code_of(error))
    finally:
        heartbeat.leave()
        jax.distributed.shutdown()
        words.withdraw()


def on_tpu() -> bool:
    """This machine has TPU chips, and JAX may use them."""
    asked = os.environ.get("JAX_PLATFORMS", "")
    usable = importlib.util.find_spec("libtpu") is not None and (not asked or "tpu" in asked)
    return usable and any(any(Path("/dev").glob(chips)) for chips in TPU_CHIPS)


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Raises CannotJoin, naming the flag."""
    problems = []
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    for name in [name for name, value in given.items() if value is None]:
        have = " ".join(f"--{name}={value}" for name, value in given.items() if value is not None)
        problems.append(f"--{name}: missing beside {have}; a run of several processes needs all three, or none on TPU")
    if coordinator is not None and not (coordinator.rpartition(":")[0] and coordinator.rpartition(":")[2].isdigit()):
        problems.append(f"--coordinator={coordinator}: should be the first process's <host>:<port>")
    if processes is not None and processes < 1:
        problems.append(f"--processes={processes}: should be at least 1")
    if processes is not None and process is not None and not 0 <= process < processes:
        problems.append(f"--process={process}: should be from 0 to {processes - 1}, another one for each process")
    if problems:
        raise CannotJoin("\n".join(problems))
