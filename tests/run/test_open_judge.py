"""The fields that say who judges: each acts, and what is wrong with them is one line before anything dear."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from azr_jax.config.flags import load
from azr_jax.config.schema import ConfigError
from azr_jax.executor.http_judge import HttpJudge
from azr_jax.executor.jobs import Run
from azr_jax.executor.pool import Executor
from azr_jax.run.build import open_judge

sys.path.append(str(Path(__file__).parents[1] / "executor"))
from test_http_judge import Farm

RECIPE = str(Path(__file__).parents[2] / "configs/nano.py")


def opened(**flags: str):
    config, problems = load(RECIPE, {f"executor.{name}": value for name, value in flags.items()})
    if problems:
        raise ConfigError(problems)
    return open_judge(config)


def test_packages_are_for_programs():
    pytest.importorskip("numpy")
    program = Run("import numpy\ndef f():\n    return numpy.int64(3)", ("",))
    for flags, reason in (({}, "raised"), ({"packages": "numpy"}, "ok")):
        judge = opened(workers="1", **flags)
        try:
            assert isinstance(judge, Executor) and judge.submit(program).result()[0].reason == reason
        finally:
            judge.close()


def test_a_farm_judges():
    farm = Farm()
    judge = opened(judge="http", url=farm.url, workers="1")
    try:
        assert isinstance(judge, HttpJudge)
        assert judge.submit(Run("def f():\n    return 4", ("",))).result()[0].value == "4"
    finally:
        judge.close()
        farm.stop()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"packages": "numppy"}, "executor: executor.packages: numppy is not installed"),
        ({"packages": "a-b"}, "executor.packages"),
        ({"judge": "http"}, "give both or neither"),
        ({"url": "http://127.0.0.1:1"}, "give both or neither"),
        ({"judge": "http", "url": "nowhere"}, "http://<host>:<port> of a sandbox server would be right"),
        ({"judge": "http", "url": "http://127.0.0.1:9"}, "Connection refused; start the farm, or take"),
        ({"judge": "http", "url": "http://127.0.0.1:9", "packages": "numpy"}, "a farm has its own"),
        ({"judge": "docker"}, "local | http"),
    ],
)
def test_what_is_wrong_is_one_line(flags, said):
    with pytest.raises(ConfigError) as refused:
        opened(**flags)
    (line,) = refused.value.problems
    assert said in line and "\n" not in line
