"""The processes this one started, as /proc shows them: what runs, and what died without anybody noticing.

Where there is no /proc (macOS) nothing is seen, and nothing is said.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COMMAND_CHARS = 120


@dataclass(frozen=True)
class Child:
    pid: int
    state: str  # R runs, S sleeps, D waits for a disk, T is stopped, Z is dead and not yet waited for
    cpu_s: float
    command: str

    @property
    def dead(self) -> bool:
        return self.state in "ZX"

    def __str__(self) -> str:
        words = {"Z": "dead", "X": "dead", "T": "stopped", "D": "waiting for a disk"}
        return f"process {self.pid} ({self.command}): {words.get(self.state, 'alive')}, {self.cpu_s:.1f} s of cpu"


def children() -> list[Child]:
    """Of this process, whichever of its threads started them."""
    pids: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            pids |= {int(word) for word in file.read_text().split()}
        except OSError:  # the thread has ended meanwhile
            continue
    return [child for pid in sorted(pids) if (child := look(pid)) is not None]


def look(pid: int) -> Child | None:
    """None where there is no such process any more."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").partition("(")[2].rpartition(")")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
    except OSError:
        return None
    fields = rest.split()
    return Child(pid, fields[0], (int(fields[11]) + int(fields[12])) / TICKS_PER_S, (command or name)[:COMMAND_CHARS])


def alive(pid: int) -> bool:
    """Whether this process runs; one that has ended but was not waited for does not."""
    child = look(pid)
    return child is not None and not child.dead
