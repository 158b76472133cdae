"""Who owns a workdir, on a disk or in a bucket: what it writes of itself, and how another one is told."""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import Any


def myself() -> dict[str, Any]:
    """This process, and a token by which it knows its own writing again."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "token": secrets.token_hex(8),
    }


def name(owner: dict[str, Any]) -> str:
    if "process" not in owner:
        return "another process"
    return f"process {owner['process']} on {owner.get('host')} (since {owner.get('since')})"


def refusal(workdir: object, owner: dict[str, Any], dead_after_s: float) -> str:
    return (
        f"--workdir={workdir}: {name(owner)} is running in it; stop that run, or give another folder. "
        f"Of a machine that is gone it can be taken over {dead_after_s:.0f} s after its last sign of life"
    )


def taken_over(workdir: object, owner: dict[str, Any]) -> str:
    return (
        f"--workdir={workdir}: {name(owner)} has taken this run over, for this process did not answer "
        "for too long; nothing more is written here"
    )
