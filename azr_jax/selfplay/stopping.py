"""Ctrl-C asks the run to stop at the end of the iteration, a second one stops it at once; SIGTERM asks it to leave now.

SIGTERM is what a machine gets that is about to be taken away, half a minute before, and an iteration on a pod takes
longer than that: what is being sampled is given up, and the last finished iteration is saved.
"""

from __future__ import annotations

import signal
from types import FrameType


class Preempted(Exception):
    """The machine goes away; what was under way need not be finished."""


class Stop:
    """`with Stop() as stop:` ... `if stop.asked:` save and leave."""

    def __init__(self) -> None:
        self.asked = self.preempted = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def leave_if_preempted(self) -> None:
        if self.preempted:
            raise Preempted

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        if number == signal.SIGTERM:
            self.preempted = True
            print("\nSIGTERM: what is being sampled is given up, the last finished iteration is saved", flush=True)
        else:
            print("\nstopping: this iteration will be finished and saved; Ctrl-C again stops at once", flush=True)
