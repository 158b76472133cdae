"""One executor for all tests of the room; real benchmarks only where AZR_DATA (or the usual folder) has them."""

import os
from pathlib import Path

import pytest

from azr_jax.evals.code import Runner
from azr_jax.executor.pool import Executor, ExecutorSettings

DATA = Path(os.environ.get("AZR_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="session")
def runner():
    with Executor(ExecutorSettings(timeout_s=2.0, memory_mb=512, workers=2, allow_weak=True)) as executor:
        yield Runner(executor, timeout_s=2.0)


@pytest.fixture(scope="session")
def data_dir():
    if not (DATA / "code").is_dir():
        pytest.skip(f"no benchmarks in {DATA}: set AZR_DATA")
    return DATA
