"""Ctrl-C asks the run to stop at the end of the iteration, a second one stops it at once; SIGTERM asks it to leave now.

SIGTERM is what a machine gets that is about to be taken away, half a minute before, and an iteration on a pod takes
longer than that: what is being sampled is given up, and the last finished iteration is saved.

Of several processes it is enough that one is asked. All learn of it when they tell each other things the next time,
after a round of sampling or at the end of an iteration, and so act on it in the same place.
"""

from __future__ import annotations

import signal
from enum import IntEnum
from types import FrameType

from azr_jax.parallel.hosts import Hosts


class Wish(IntEnum):
    GO_ON = 0
    END_ITERATION = 1
    LEAVE_NOW = 2


class Preempted(Exception):
    """The machine goes away; what was under way need not be finished."""


class Stop:
    """`with Stop() as stop:` ... `if stop.asked:` save and leave."""

    def __init__(self, hosts: Hosts | None = None) -> None:
        self._hosts = hosts or Hosts()
        self._before: dict[int, object] = {}

    @property
    def asked(self) -> bool:
        """The same in all processes, like everything that follows from it."""
        return self._hosts.agreed >= Wish.END_ITERATION

    def ask(self, wish: Wish = Wish.END_ITERATION) -> None:
        self._hosts.wish = max(self._hosts.wish, wish)

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def leave_if_preempted(self) -> None:
        if self._hosts.agreed >= Wish.LEAVE_NOW:
            raise Preempted

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._hosts.wish and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.ask(Wish.LEAVE_NOW if number == signal.SIGTERM else Wish.END_ITERATION)
        if number == signal.SIGTERM:
            print("\nSIGTERM: what is being sampled is given up, the last finished iteration is saved", flush=True)
        else:
            print("\nstopping: this iteration will be finished and saved; Ctrl-C again stops at once", flush=True)
