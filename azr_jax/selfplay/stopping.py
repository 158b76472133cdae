"""Ctrl-C and SIGTERM ask the run to stop at the next good moment; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
from types import FrameType


class Stop:
    """`with Stop() as stop:` ... `if stop.asked:` save and leave."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        print("\nstopping: this iteration will be finished and saved; Ctrl-C again stops at once", flush=True)
