"""One executor for a file of attacks, which has to have lost nothing at its end."""

import pytest

from azr_jax.executor.pool import Executor, ExecutorSettings


@pytest.fixture(scope="module")
def jailed():
    """No list of banned modules, so that what is tested is what runs and judges."""
    with Executor(ExecutorSettings(timeout_s=2.0, workers=2, banned_modules=())) as running:
        yield running
        stats = running.stats()
        assert (stats.get("zygotes_replaced", 0), stats.get("own_errors", 0), stats["jobs_pending"]) == (0, 0, 0)
