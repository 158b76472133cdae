"""One executor for a whole test run, with a short time limit, and where the data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from azr_jax.executor.pool import Executor, ExecutorSettings


@pytest.fixture(scope="session")
def executor():
    with Executor(ExecutorSettings(timeout_s=2.0, workers=2)) as running:
        yield running


@pytest.fixture
def fresh():
    """For programs that may leave something behind: what it is, is nobody else's."""
    with Executor(ExecutorSettings(timeout_s=2.0, workers=1)) as running:
        yield running


@pytest.fixture(scope="session")
def data() -> Path:
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("AZR_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no data folder; set AZR_DATA")
    return folder
