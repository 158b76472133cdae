"""Packages that the user names: there for programs, read-only, with one thread; nothing else of what is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from azr_jax.executor import jail
from azr_jax.executor.installed import NotInstalled, paths_of
from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import decode
from azr_jax.tasks.types import Answer, Kind, Proposal

HEAD = "import numpy as np\n"


@pytest.fixture(scope="module", params=[True, False], ids=["namespaces", "none"])
def with_numpy(request):
    pytest.importorskip("numpy")
    settings = ExecutorSettings(workers=1, timeout_s=10, packages=("numpy",), namespaces=request.param)
    with Executor(settings) as running:
        yield running


def value(executor, body: str, given: str = "") -> Any:
    (outcome,) = executor.submit(Run(HEAD + f"def f(*x):\n    {body}", (given,))).result()
    return decode(outcome.value) if outcome.value is not None else f"{outcome.reason}: {outcome.detail}"


def test_numbers_and_arrays_of_numpy_become_plain_ones(with_numpy):
    found = value(with_numpy, "return np.int64(6), np.float64(0.5), np.bool_(True), np.str_('a'), np.complex128(1j)")
    assert found == (6, 0.5, True, "a", 1j) and list(map(type, found)) == [int, float, bool, str, complex]
    found = value(with_numpy, "return np.arange(6).reshape(2, 3), {np.int8(3): np.array(['u'])}, np.array(2.5)")
    assert found == ([[0, 1, 2], [3, 4, 5]], {3: ["u"]}, 2.5)


def test_what_has_no_plain_form_is_refused(with_numpy):
    assert "longdouble" in value(with_numpy, "return np.longdouble(1)")
    assert "array of datetime64[D]" in value(with_numpy, "return np.array(['2020-01-01'], 'datetime64[D]')")
    assert "value too large" in value(with_numpy, "return np.zeros(10**6)")
    assert "MaskedArray" in value(with_numpy, "return np.ma.array([1, 2])")
    assert "nested too deep" in value(with_numpy, "a = np.empty(1, object); a[0] = a; return a")


def test_only_what_was_named_is_there_and_read_only(with_numpy):
    other = "import jax"
    assert any(word in value(with_numpy, other) for word in ("ModuleNotFoundError", "PermissionError"))
    assert "Error" in value(with_numpy, "import os; return os.listdir(os.path.dirname(np.__path__[0]))")
    assert "PermissionError" in value(with_numpy, "open(np.__path__[0] + '/new', 'w')")
    assert value(with_numpy, "import os; return os.environ.get('HOME')") is None


def test_one_thread(with_numpy):
    """A multiplication that a library would share between threads runs, in one."""
    assert value(with_numpy, "return float((np.ones((400, 400)) @ np.ones((400, 400))).sum())") == 400.0**3


def test_chance_of_numpy_is_no_task_and_seeded_chance_is(with_numpy):
    def validated(body: str):
        return with_numpy.submit(Validate(Proposal(Kind.DEDUCTION, HEAD + f"def f(x):\n    {body}", ("7",)))).result()

    assert validated("return np.random.rand()").reason == "not deterministic"
    assert validated("return np.random.default_rng().integers(0, 10**9)").task is None
    task = validated("np.random.seed(x)\n    return np.random.randint(0, 9, 4)").task
    assert task is not None
    assert with_numpy.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, task.output))).result().correct
    assert not with_numpy.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, "[1]"))).result().correct


def test_a_row_of_the_published_buffer_that_uses_numpy(with_numpy):
    program = HEAD + (
        "def f(arr: list[list[int]]) -> list[int]:\n    arr_np = np.array(arr)\n"
        "    return [np.sum(arr_np[i, :]) for i in range(arr_np.shape[0])]"
    )
    proposal = Proposal(Kind.DEDUCTION, program, ("[[1, 2, 3], [4, 5, 6], [7, 8, 9]]",))
    assert with_numpy.submit(Validate(proposal)).result().task.output == "[6, 15, 24]"


def test_without_the_field_there_is_no_numpy(executor):
    (outcome,) = executor.submit(Run(HEAD + "def f():\n    return 1", ("",))).result()
    assert "ModuleNotFoundError" in outcome.detail


def test_a_package_that_is_not_installed_is_one_line():
    with pytest.raises(NotInstalled, match=r"executor.packages: numppy is not installed beside .*; install it"):
        Executor(ExecutorSettings(packages=("numppy",)))
    assert paths_of(()) == []


def test_what_a_package_needs_comes_with_it():
    pytest.importorskip("hypothesis")
    assert {path.rpartition("/")[2] for path in paths_of(("hypothesis",))} >= {"hypothesis", "sortedcontainers"}


def test_the_root_is_built_where_nothing_lies_that_programs_may_read():
    """An environment in /tmp was hidden by the root built over it: numpy was gone, and Landlock found no such file."""
    assert jail._out_of_the_way(["/usr/lib/python3", "/opt/env/numpy"]) == "/tmp"
    assert jail._out_of_the_way(["/usr/lib/python3", "/tmp/env/numpy"]) == "/mnt"
    with pytest.raises(OSError, match="lies in every folder"):
        jail._out_of_the_way(["/tmp/a", "/mnt/b", "/srv/c", "/media/d"])


def test_a_package_installed_below_the_interpreter_is_no_way_to_what_lies_beside_it():
    """Without a virtual environment that is where it lies, and all that is installed was on the programs' path."""
    code = (
        "import sys; sys.base_prefix = root = sys.argv[1]; sys.path.insert(0, root); "
        "from azr_jax.executor import zygote; zygote._forget_ourselves([]); print(root in sys.path)"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-S", "-P", "-c", code, root], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_numpy_is_not_told_the_time_either(with_numpy):
    """Its `now` asks libc, where no zygote's clock stood in the way: a task whose answer was the hour."""
    program = HEAD + "def f(x):\n    return int(str(np.datetime64('now'))[:4]) > 2000"
    validation = with_numpy.submit(Validate(Proposal(Kind.DEDUCTION, program, ("1",)))).result()
    assert validation.task.output == "False"
