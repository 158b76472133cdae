"""The console scripts: `azr-train` is `python -m azr_jax.main`, and so on, to the flags and the exit code.

A script runs its module just as `-m` does, because absl tells the flags of the program that was started from those of
what it imports, for --help.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def train() -> None:
    runpy.run_module("azr_jax.main", run_name="__main__", alter_sys=True)


def evaluate() -> None:
    runpy.run_module("azr_jax.evaluate", run_name="__main__", alter_sys=True)


def export() -> None:
    runpy.run_module("azr_jax.export", run_name="__main__", alter_sys=True)


def report() -> None:
    runpy.run_module("azr_jax.report", run_name="__main__", alter_sys=True)


def dryrun() -> None:
    runpy.run_module("azr_jax.dryrun", run_name="__main__", alter_sys=True)


def started_as(script: str, module: str) -> list[str]:
    """The words with which this program was started, for a command that a user is to give again."""
    return [script] if any(Path(word).name == script for word in sys.orig_argv[:3]) else ["python", "-m", module]
