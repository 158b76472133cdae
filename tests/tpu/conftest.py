import os
import stat
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "tpu"


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """Stands in for gcloud, docker and xpk: writes down what it is called with, and answers `state` by a file."""
    calls, state = tmp_path / "calls", tmp_path / "state"
    state.write_text("ACTIVE\n")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gcloud", "docker", "xpk"):
        program = folder / name
        program.write_text(
            f'#!/bin/bash\necho "{name} $*" >> {calls}\n[[ "$*" == *describe* ]] && cat {state}\nexit 0\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    calls.touch()
    return calls
