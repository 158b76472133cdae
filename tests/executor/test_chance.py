"""What a program can see beside its arguments: nothing that makes a right answer wrong the next time, and no gold."""

# ruff: noqa: E501 - tables of programs

from __future__ import annotations

import ast

import pytest

from azr_jax.executor import reach
from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import encode
from azr_jax.tasks.types import Answer, Kind, Proposal, Triplet


@pytest.fixture(scope="module")
def open_executor():
    """No list of banned modules, so that the clocks are tested and not the list."""
    with Executor(ExecutorSettings(timeout_s=2.0, workers=2, banned_modules=())) as running:
        yield running


def validated(executor: Executor, program: str, given: str = "1", kind: Kind = Kind.DEDUCTION):
    return executor.submit(Validate(Proposal(kind, program, (given,)))).result()


def joined(unit: int, clock: str = "clock_gettime", scale: int = 1) -> str:
    """Reaches a clock by names that no text shows, and returns one bit of it."""
    half = len(clock) // 2
    return (
        "import email.utils\ndef f(x):\n    t = getattr(email.utils, 'ti' + 'me')\n"
        f"    c = getattr(t, {clock[:half]!r} + {clock[half:]!r})\n    return x + int(c(0)) // {scale} // {unit} % 2"
    )


CLOCKS = {
    "second": joined(1), "minute": joined(60), "hour": joined(3_600), "day": joined(86_400),
    "hour in ns": joined(3_600, "clock_gettime_ns", 10**9), "day in ns": joined(86_400, "clock_gettime_ns", 10**9),
    "plainly": "import email.utils\ndef f(x):\n    return x + int(email.utils.time.clock_gettime(0)) // 3600 % 2",
    "since the start": "import time\ndef f(x):\n    return x + int(time.clock_gettime(time.CLOCK_MONOTONIC)) // 60 % 2",
    "processor": "import time\ndef f(x):\n    return x + int(time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID))",
    "elapsed": "import os\ndef f(x):\n    return x + int(os.times().elapsed) // 60",
    "user": "import os\ndef f(x):\n    return x + int(os.times()[0])",
}  # fmt: skip


@pytest.mark.parametrize("name", CLOCKS)
def test_every_clock_differs_between_runs(open_executor, name):
    assert validated(open_executor, CLOCKS[name]).reason == "not deterministic"


ELAPSED = "import time\ndef f(x):\n    t = time.{0}_ns()\n    sum(range(20_000))\n    return x + time.{0}_ns() - t"
STILL = {
    "wall": ELAPSED.format("time"), "steady": ELAPSED.format("monotonic"), "fine": ELAPSED.format("perf_counter"),
    "processor": ELAPSED.format("process_time"), "thread": ELAPSED.format("thread_time"),
    "timeit": "import timeit\ndef f(x):\n    return x + int(timeit.timeit('sum(range(99))', number=99) * 1e9)",
    "profile": "import profile\ndef f(x):\n    p = profile.Profile()\n    p.run('sum(range(99))')\n    return x + sum(int(v[2] * 1e9) for v in p.timings.values())",
    "now": "import datetime\ndef f(x):\n    a, b = datetime.datetime.now(), datetime.datetime.now()\n    return x + (b - a).microseconds",
    "a loop's": "import asyncio\nasync def g():\n    loop = asyncio.get_running_loop()\n    t = loop.time()\n    sum(range(20_000))\n    return loop.time() - t\ndef f(x):\n    return x + int(asyncio.run(g()) * 1e9)",
    "a race": "import asyncio\nasync def w(d, n, out):\n    await asyncio.sleep(d)\n    out.append(n)\nasync def g():\n    out = []\n    await asyncio.gather(w(.0012, 1, out), w(.0011, 2, out))\n    return out[0]\ndef f(x):\n    return x + asyncio.run(g())",
    "memory used": "import resource\ndef f(x):\n    a = resource.getrusage(0)\n    b = bytearray(2_000_000)\n    return x + resource.getrusage(0).ru_minflt - a.ru_minflt",
    "samples": "from statistics import NormalDist\ndef f(x):\n    return x + int(NormalDist(0, 1).samples(3)[0] > 0)",
    "a coin": "import random\ndef f(x):\n    return x + random.getrandbits(1)",
    "a new generator": "import random\ndef f(x):\n    return x + random.Random().getrandbits(1)",
    "seeded by nothing": "import random\ndef f(x):\n    random.seed()\n    return x + random.getrandbits(1)",
    "a name for a file": "import tempfile\ndef f(x):\n    return x + ord(next(tempfile._get_candidate_names())[0]) % 2",
    "a number for a message": "import email.utils\ndef f(x):\n    return x + ord(email.utils.make_msgid(domain='a')[-4]) % 2",
    "a moment as a number": "import uuid\ndef f(x):\n    return x + uuid.uuid1().time // 10 % 2",
}  # fmt: skip


@pytest.mark.parametrize("name", STILL)
def test_what_is_measured_or_drawn_is_the_same_each_time(open_executor, name):
    """Or differs each time and is no task. Samples were accepted seven times of eight, and answered by chance."""
    found = {
        (validation.reason, getattr(validation.task, "output", ""))
        for validation in [
            future.result()
            for future in [
                open_executor.submit(Validate(Proposal(Kind.DEDUCTION, f"{STILL[name]}\n# {n}", ("1",))))
                for n in range(3)
            ]
        ]
    }
    assert len(found) == 1, found
    assert found.pop()[0] in ("", "not deterministic")


def test_an_evaluations_clock_goes(open_executor):
    """Solutions of contests stop when their time is nearly up."""
    program = "import time\ndef f(x):\n    t = time.monotonic()\n    while time.monotonic() < t + x:\n        sum(range(20_000))\n    return time.monotonic() - t < 1.0"
    assert open_executor.submit(Run(program, ("0.05",))).result()[0].value == "true"


@pytest.mark.parametrize(
    "line", ["from statistics import random", "from queue import time", "import cProfile", "import _random"]
)
def test_with_the_list_a_module_of_a_module_is_no_import(executor, line):
    assert validated(executor, f"{line}\ndef f(x):\n    return x").reason == "banned import"


def test_with_the_list_a_name_that_is_reckoned_is_refused(executor):
    for program in (CLOCKS["hour"], CLOCKS["plainly"]):
        assert validated(executor, program).reason == "banned name"
    assert validated(executor, "def f(x):\n    return getattr(x, 'real')").task is not None


def address_bit(bit: int, show: str, setup: str = "") -> str:
    number = f"int(({show}).split('0x')[1].split('>')[0], 16)"
    return f"{setup}\ndef f(x):\n    return x + ({number} >> {bit}) % 2"


def test_a_bit_of_an_address_is_seen_to_differ(executor):
    """One draw of two hides every other bit; twelve of them, each with its own places, one in 2,048."""
    shows = ("repr(A())", "str(i for i in [1])", "f'{f}'", "'%s' % (lambda: 0)", "'{}'.format(map(str, []))")
    programs = [address_bit(bit, show, "class A: pass") for bit in (5, 7, 12, 14, 16, 21, 24, 28) for show in shows]
    waiting = [executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("1",)))) for program in programs]
    accepted = [program for program, future in zip(programs, waiting) if future.result().task is not None]
    assert len(accepted) <= 1  # of 40: none is expected, twenty were before


FILES = {
    "read": "import os\ndef f(x):\n    return os.stat(os.__file__).st_atime_ns",
    "read, not followed": "import os\ndef f(x):\n    return os.lstat(os.__file__).st_atime_ns",
    "read, opened": "import os\ndef f(x):\n    return os.fstat(os.open(os.__file__, 0)).st_atime_ns",
    "read, of a path": "import pathlib, os\ndef f(x):\n    return pathlib.Path(os.__file__).stat().st_atime_ns",
    "changed": "import os\ndef f(x):\n    return os.stat(os.__file__).st_ctime_ns",
    "listed": "import os\ndef f(x):\n    return [e.stat().st_atime_ns for e in os.scandir(os.path.dirname(os.__file__)) if e.name == 'os.py'][0]",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_one_time(open_executor, name):
    """When it was last read changes whenever somebody reads it: told is when it was made, which does not."""
    import os
    from pathlib import Path

    program = FILES[name]
    task = validated(open_executor, program).task
    assert isinstance(task, Triplet) and int(task.output) == Path(os.__file__).stat().st_mtime_ns


def test_a_pipe_and_a_folder_have_none(open_executor):
    for what in ("os.fstat(d) for d in range(9)", "os.stat('/') for _ in '1'"):
        program = f"import os\ndef f(x):\n    found = []\n    for d in range(9):\n        try:\n            found.append(os.fstat(d).st_mtime_ns)\n        except OSError:\n            pass\n    return found, os.stat('/').st_mtime_ns  # {what}"
        task = validated(open_executor, program).task
        assert isinstance(task, Triplet) and task.output.endswith("0], 0)")


# ------------------------------------------------------------------------------ gold
SEARCHES = {
    "frames": "import sys\ndef f(x):\n    frame, seen = sys._getframe(), ''\n    while frame:\n        seen += repr(list(frame.f_locals.values()))\n        frame = frame.f_back\n    return 777 if str(31415900 + 26) in seen else x",
    "all dicts": "import gc\ndef f(x):\n    return 777 if any(type(o) is dict and 'gold' in o for o in gc.get_objects()) else x",
    "all that is held": "import gc\ndef f(x):\n    seen = [o for o in gc.get_objects() if type(o) in (dict, list, tuple)]\n    return 777 if any(type(v) is str and str(31415900 + 26) in v and len(v) < 30 for o in seen for v in (o.values() if type(o) is dict else o)) else x",
}


@pytest.mark.parametrize("name", SEARCHES)
def test_the_tasks_own_input_is_not_in_the_child_that_runs_another_answer(open_executor, name):
    """A program that finds it would know which answer is right, and could make any answer right."""
    task = Triplet(SEARCHES[name], "31415926 * 1", "777", encode(777))
    for answer in ("5", "2 + 3", "int('5')", "__import__('math').floor(5.5)"):
        verdict = open_executor.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, answer))).result()
        assert verdict.reason == "wrong value"


def test_the_tasks_own_input_may_name_the_programs_classes_in_any_layout(executor):
    program = "class P:\n    def __init__(self, x):\n        self.x = x\ndef f(p):\n    return p.x"
    task = Triplet(program, "P('a')", "'a'", encode("a"))
    answers = {"P('a')": 1.0, " P('a') ": 1.0, 'P( "a", )': 1.0, "P('b')": 0.0, "P('a') if P else 0": 0.0}
    waiting = {a: executor.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, a))) for a in answers}
    assert {a: future.result().score for a, future in waiting.items()} == answers


def test_an_abduction_task_has_time_to_spare(open_executor):
    """Of a program that takes nearly the whole limit half of the right answers would be late."""
    program = "import time\ndef f(x):\n    time.sleep(1.3)\n    return x"
    assert validated(open_executor, program, kind=Kind.ABDUCTION).reason == "too slow"
    assert validated(open_executor, program.replace("1.3", "0.1"), kind=Kind.ABDUCTION).task is not None


# ------------------------------------------------------------------------------ what the text shows
PLAIN = {
    "arithmetic": "def f(x, y=2):\n    return x * y % 7 ** 2",
    "text": "def f(s):\n    return s.upper()[::-1].replace('A', str(len(s)))",
    "percent": "def f(s):\n    return '%d-%s' % (len(s), s)",
    "format": "def f(s):\n    return '{:>5}{}'.format(s, f'{len(s)!r}')",
    "a helper": "LIMIT = 7\nNAMES = ('a', -1)\ndef g(x):\n    return x + LIMIT\n\ndef f(x):\n    '''Doc.'''\n    return g(g(x))",
    "collections": "from collections import Counter, deque\nimport math\ndef f(s):\n    q = deque(s)\n    q.append(math.floor(math.pi))\n    return Counter(q).most_common(1)",
    "generators": "def f(xs):\n    return sum(x for x in xs if x % 2) + max(map(abs, xs))",
    "nested": "def f(n):\n    def g(k):\n        return 1 if k < 2 else k * g(k - 1)\n    return g(n)",
    "errors": "def f(x):\n    try:\n        return 1 / x\n    except ZeroDivisionError as error:\n        raise ValueError('zero') from error",
    "typing": "from typing import List, Optional\ndef f(x: Optional[List[int]]) -> int:\n    return len(x or [])",
    "dicts": "def f(d):\n    e = {}\n    for k, v in sorted(d.items()):\n        e.setdefault(k, []).append(v)\n    return e",
}
CHANCE = {
    "a set": "def f(s):\n    return list({1, 2})",
    "a clock": "import time\ndef f():\n    return time.time()",
    "a module's module": "import statistics\ndef f():\n    return statistics.random.random()",
    "a reckoned name": "def f(x):\n    return getattr(x, 're' + 'al')",
    "an underscore": "def f(x):\n    return f.__code__",
    "eval": "def f(x):\n    return eval(x)",
    "open": "def f(x):\n    return open(x)",
    "an object's text": "class A: pass\ndef f():\n    return str(A())",
    "a generator's text": "def f(x):\n    return str(c for c in x)",
    "a function's text": "def f(x):\n    return f'{f}'",
    "a method's text": "def f(x):\n    return repr(x.upper)",
    "a library function's text": "from textwrap import dedent\ndef f(x):\n    return '%s' % dedent",
    "a hidden percent": "def f(x):\n    return (chr(37) + 's') % (lambda: 0)",
    "a format that reads attributes": "def f(x):\n    return '{0.__class__}'.format(x)",
    "a format from elsewhere": "def f(x):\n    return x.format(f)",
    "memory": "def f(x):\n    try:\n        return [0] * x\n    except MemoryError:\n        return 0",
    "whatever happens": "def f(x):\n    try:\n        return [0] * x\n    except Exception:\n        return 0",
    "attributes by text": "from operator import attrgetter\ndef f(x):\n    return attrgetter('real')(x)",
    "a type made": "def f(x):\n    return type('A', (), {})()",
}
MEMORY = {
    "a default": "def f(x, seen=[]):\n    return seen",
    "a default of a helper": "def g(x, *, seen={}):\n    return seen\ndef f(x):\n    return g(x)",
    "a table": "T = {}\ndef f(x):\n    return T",
    "a global": "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n",
    "an attribute": "def f(x):\n    g = f\n    g.n = 1\n    return g.n",
    "a class": "class A:\n    seen = []\ndef f(x):\n    A.seen.append(x)\n    return A.seen",
    "a decorator": "import functools\n@functools.cache\ndef f(x):\n    return [x]",
    "a library's table": "import copy\ndef f(x):\n    copy.dispatch_table[x] = 1\n    return len(copy.dispatch_table)",
    "another one": "from typing import EXCLUDED_ATTRIBUTES as t\ndef f(x):\n    t.append(x)\n    return len(t)",
    "a registry": "from collections.abc import Sized\ndef f(x):\n    seen = isinstance(1, Sized)\n    Sized.register(int)\n    return seen",
    "an iterator": "import itertools\nc = itertools.count()\ndef f(x):\n    return next(c)",
    "setattr": "def f(x):\n    setattr(f, 'n', x)",
    "unpacked": "a, b = [], []\ndef f(x):\n    a.append(x)\n    return len(a)",
    "under an if": "if True:\n    a = []\ndef f(x):\n    a.append(x)\n    return len(a)",
}


def test_the_text_shows_what_may_depend_on_chance():
    for name, program in PLAIN.items():
        assert not reach.sight([ast.parse(program)]).chance or name == "generators", name
    for name, program in CHANCE.items():
        assert reach.sight([ast.parse(program)]).chance, name


def test_the_text_shows_what_may_depend_on_an_address():
    """Hash seeds tell nothing of it, so it takes more runs."""
    for program in (
        "def f(x):\n    return list({f, x})",
        "def f(x):\n    return list({None, x})",
        "def f(x):\n    return id(x)",
    ):
        assert reach.sight([ast.parse(program)]).address, program
    for name in ("an object's text", "a clock", "a hidden percent"):
        assert reach.sight([ast.parse(CHANCE[name])]).address, name
    for name, program in {**PLAIN, "a set": CHANCE["a set"]}.items():
        assert not reach.sight([ast.parse(program)]).address or name == "generators", name
    told = "def f(x=None):\n    return str(x or None) + f'{len(x)}'"
    assert not reach.sight([ast.parse(told)]).address, "None and any text were twelve runs"


def test_the_text_shows_what_may_remember():
    for name, program in PLAIN.items():
        assert not reach.remembers(ast.parse(program)), name
    for name, program in MEMORY.items():
        assert reach.remembers(ast.parse(program)), name


def test_an_input_may_bring_chance_into_a_program():
    program = ast.parse("def f(x):\n    return str(x)")
    assert not reach.sight([program, ast.parse("f(5)")]).chance
    assert reach.sight([program, ast.parse("f(lambda: 0)")]).chance
