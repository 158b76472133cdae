"""Ways to be paid for nothing, and honest work that was refused, each found by an attack on the rules and closed."""

# ruff: noqa: E501 - a program is one line of text, whatever its length

import pytest

from azr_jax.executor.jobs import Validate
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.tasks.leaks import leak
from azr_jax.tasks.sameness import program_mark, task_mark
from azr_jax.tasks.types import InductionTask, Kind, Proposal, Triplet

BEST = "def f(x):\n    return x * 10 + 3"
PADDED = {
    "an unread local": BEST.replace("return", "y = x\n    return"),
    "a bare name": BEST.replace("return", "x\n    return"),
    "a true assert": BEST.replace("return", "assert True\n    return"),
    "an empty if": BEST.replace("return", "if x:\n        pass\n    return"),
    "an unread dict": "D = {}\n" + BEST,
    "an unread lambda": "g = lambda: 0\n" + BEST,
    "a lambda": "f = lambda x: x * 10 + 3",
}


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=2.0)) as running:
        yield running


# ------------------------------------------------------------------------------ paid for nothing
@pytest.mark.parametrize("copy", PADDED.values(), ids=PADDED)
def test_a_padded_copy_is_a_copy(copy):
    """Each may stand any number of times: +0.88 a proposal, all new, under the paper's preset."""
    assert task_mark(Triplet(copy, "5", "53", "53"), "constants") == task_mark(
        Triplet(BEST, "5", "53", "53"), "constants"
    )


FRESH = {
    "a temporary": BEST.replace("return x * 10 + 3", "y = x * 10 + 3\n    return y"),
    "a temporary, in part": BEST.replace("return x * 10 + 3", "y = x * 10\n    return y + 3"),
    "another name": BEST.replace("return x", "y = x\n    return y"),
    "worked out for nothing": BEST.replace("return", "y = x ** 2 + len(str(x))\n    return"),
    "worked out, then overwritten": BEST.replace("return x", "y = x * 7\n    y = x\n    return y"),
    "counted for nothing": BEST.replace("return", "n = 0\n    for i in range(3):\n        n += i\n    return"),
    "a helper": "def g(x):\n    return x * 10 + 3\n\ndef f(x):\n    return g(x)",
    "a helper, behind it": "def f(x):\n    return g(x)\ndef g(n):\n    return n * 10 + 3",
    "another name of it": "def g(x):\n    return x * 10 + 3\nf = g",
    "a name for a constant": "K = 10\n" + BEST.replace("10", "K"),
    "a default": "def f(x, k=10):\n    return x * k + 3",
    "a parameter never read": "def f(x, y=4):\n    return x * 10 + 3",
    "a class that nobody makes": "class A:\n    pass\n" + BEST.replace("return", "y = x * 2\n    return"),
    "a branch that does nothing": BEST.replace("return", "if x > 3:\n        y = 1\n    return"),
}


@pytest.mark.parametrize("copy", FRESH.values(), ids=FRESH)
def test_a_copy_by_other_means_is_a_copy(copy):
    compile(copy, "copy", "exec")
    marks = {task_mark(Triplet(program, "5", "53", "53"), "constants") for program in (copy, BEST)}
    assert len(marks) == 1


def test_an_input_for_a_parameter_never_read_is_none():
    program = "def f(x, y):\n    return x * 10 + 3"
    marks = {task_mark(Triplet(program, given, "53", "53")) for given in ("5, 1", "5, 2", "y=[7], x=5")}
    assert marks == {task_mark(Triplet(BEST, "5", "53", "53"))}
    assert task_mark(Triplet(program, "6, 1", "63", "63")) not in marks


NOT_COPIES = {
    "it fails elsewhere": ("def f(x):\n    try:\n        y = 1 / x\n    except ZeroDivisionError:\n        return 0\n    return x",
                           "def f(x):\n    return x"),
    "read in the next round": ("def f(x):\n    y = 0\n    for i in x:\n        z = y\n        y = i\n    return z",
                               "def f(x):\n    y = 0\n    for i in x:\n        z = y\n    return z"),
    "read behind a break": ("def f(x):\n    y = 0\n    for i in x:\n        if i:\n            y = i\n            break\n        y = 2\n    return y",
                            "def f(x):\n    y = 0\n    for i in x:\n        if i:\n            break\n        y = 2\n    return y"),
    "a list that two names have": ("def f(x):\n    y = x\n    y += [1]\n    return x", "def f(x):\n    return x"),
    "seen by a function inside": ("def f(x):\n    y = 1\n    def g():\n        return y\n    y = 2\n    return g()",
                                  "def f(x):\n    y = 1\n    def g():\n        return y\n    return g()"),
    "an iterator that is read": ("def f(x):\n    i = iter(x)\n    y = next(i)\n    return next(i)", "def f(x):\n    i = iter(x)\n    return next(i)"),
    "an object that adds": ("class A:\n    n = 0\n    def __add__(self, o):\n        A.n += 1\n        return 0\ndef f(x):\n    a = A()\n    y = a + 1\n    return A.n",
                            "class A:\n    n = 0\n    def __add__(self, o):\n        A.n += 1\n        return 0\ndef f(x):\n    a = A()\n    return A.n"),
    "a name that is another's too": ("def f(x):\n    y = x\n    x = 5\n    return y", "def f(x):\n    x = 5\n    return x"),
    "a default that is given": ("def f(x, k=10):\n    return x * k", "def f(x, k=11):\n    return x * k"),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), NOT_COPIES.values(), ids=NOT_COPIES)
def test_what_is_no_copy(one, other):
    marks = {task_mark(Triplet(program, "[1, 2]", "", "")) for program in (one, other)}
    assert len(marks) == 2


def test_a_class_that_the_input_names_is_used():
    """Nothing on the way from `f` reads it: any two such classes were one."""
    program = "class P:\n    def __init__(self, x):\n        self.x = x\ndef f(p):\n    return p.x"
    other = program.replace("self.x = x", "self.x = x + 1")
    assert len({task_mark(Triplet(one, "P(5)", "", "")) for one in (program, other)}) == 2
    two = program.replace("def f", "class Q(P):\n    x = 2\n    def __init__(self, x):\n        pass\ndef f")
    turned = two.replace("Q(P)", "T(R)").replace("P:", "Q:").replace("R", "Q").replace("T", "P")
    assert len({task_mark(Triplet(one, "P(5)", "", "")) for one in (two, turned)}) == 2
    several = [InductionTask(one, ("P(5)", "P(6)"), ("", ""), ("a", "b"), "", 1) for one in (program, other)]
    assert len(set(map(task_mark, several))) == 2


def test_of_a_program_without_f_nothing_is_unused():
    program = "def g(n):\n    return n + 1"
    assert program_mark(program) != program_mark(program.replace("+", "-"))


def test_where_a_failure_is_asked_for_what_may_fail_stays():
    failing = BEST.replace("return", "y = 1 / x\n    return")
    for kind, same in ((Kind.ERROR, 2), (Kind.DEDUCTION, 1)):
        assert len({kind.mark(Triplet(program, "0", "", ""), "constants") for program in (BEST, failing)}) == same


def test_what_stands_behind_two_branches_that_end_is_dead():
    program = "def f(x):\n    if x > 3:\n        return 1\n    else:\n        return 2"
    assert program_mark(program) == program_mark(program + "\n    x += 1")


@pytest.mark.parametrize("given", ["+5", "5 + 0", "*[5]", "**{'x': 5}", "5, *[]", "5, **{}"])
def test_an_input_of_the_same_value_is_the_same_input(given):
    """An induction proposal that says an input twice is told so (pairs.py); a triplet is paid as new."""
    marks = {task_mark(Triplet(BEST, one, "53", "53"), "constants") for one in (given, "5")}
    assert len(marks) == 1


def test_a_text_with_a_prefix_that_says_nothing_is_the_same_text():
    assert task_mark(Triplet(BEST, "u'a'", "", ""), "constants") == task_mark(Triplet(BEST, "'a'", "", ""), "constants")


LONG = """def f(xs, k):
    total = 0
    for i, x in enumerate(xs):
        if x % k == 0:
            total += x * i
        else:
            total -= k
    return total"""
LINES = LONG.split("\n")
LISTED = {
    "numbered": "\n".join(f"{number}. {line}" for number, line in enumerate(LINES, 1)),
    "quoted": "\n".join("> " + line for line in LINES),
    "bullets": "\n".join(f"- `{line.strip()}`" for line in LINES),
    "commented": "\n".join("# " + line for line in LINES),
    "with remarks": "\n".join(line + "  // a line" for line in LINES),
    "one text": repr(LONG),
    "a list of texts": repr(LINES),
}


@pytest.mark.parametrize("message", LISTED.values(), ids=LISTED)
def test_a_listing_of_the_program_is_the_program(message):
    """No cipher: verbatim, with a sign before each line, or quotes around."""
    assert leak(LONG, message) >= 0.8


@pytest.mark.slow
def test_the_program_in_a_comment_of_an_input_is_not_shown(executor):
    """`message_leak` looks at the message alone; an input is shown as it was written, with what it says behind a #."""
    inputs = ("0  # def f(x): return x * 10 + 3", *map(str, range(1, 10)))
    task = executor.submit(Validate(Proposal(Kind.INDUCTION, BEST, inputs, "m"), fewest=10, most=10)).result().task
    assert task is None or "return" not in Kind.INDUCTION.shown(task)


# ------------------------------------------------------------------------------ honest work refused
KEYWORDS = {
    "of the library": (
        "from collections import Counter\ndef f(a):\n    return Counter(a=a)",
        "from collections import Counter\ndef f(b):\n    return Counter(b=b)",
    ),
    "of the library, two": (
        "from math import isclose\ndef f(rel_tol):\n    return isclose(100, 101, rel_tol=rel_tol)",
        "from math import isclose\ndef f(abs_tol):\n    return isclose(100, 101, abs_tol=abs_tol)",
    ),
    "of a named tuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(x, y):\n    return P(x=x, y=y)[0]",
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(y, x):\n    return P(y=y, x=x)[0]",
    ),
    "of a method": (
        "class A:\n    def m(self, x, y):\n        return x - y\ndef f(a):\n    return A().m(x=a, y=1)",
        "class A:\n    def m(self, y, x):\n        return y - x\ndef f(a):\n    return A().m(x=a, y=1)",
    ),
    "in a dict": (
        "def g(x, y):\n    return x - y\ndef f(a):\n    return g(**{'x': a, 'y': 1})",
        "def g(y, x):\n    return y - x\ndef f(a):\n    return g(**{'x': a, 'y': 1})",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), KEYWORDS.values(), ids=KEYWORDS)
def test_programs_that_differ_in_what_a_keyword_names(one, other):
    assert program_mark(one) != program_mark(other)


REGISTRY = """R = {}
class Base:
    key = ''
    def __init_subclass__(cls):
        R[cls.key] = cls
class Double(Base):
    key = 'd'
    def go(self, x):
        return x * 2
def f(x):
    return R['d']().go(x)"""
META = """R = []
class M(type):
    def __init__(cls, *a):
        R.append(cls)
class A(metaclass=M):
    def go(self, x):
        return x + 1
def f(x):
    return R[0]().go(x)"""
EFFECTS = {
    "a subclass that registers": (REGISTRY, REGISTRY.replace("x * 2", "x + 7")),
    "a class that its metaclass keeps": (META, META.replace("x + 1", "x * 9")),
    "a class whose body does something": (
        "L = []\nclass A:\n    L.append(1)\ndef f(x):\n    return len(L)", "L = []\ndef f(x):\n    return len(L)",
    ),
    "subclasses counted": (
        "class B: pass\nclass C(B): pass\ndef f(x):\n    return len(B.__subclasses__())",
        "class B: pass\ndef f(x):\n    return len(B.__subclasses__())",
    ),
    "a default that does something": (
        "def f(x, acc=[]):\n    def g(y=acc.append(1)):\n        return y\n    return len(acc)",
        "def f(x, acc=[]):\n    return len(acc)",
    ),
    "a docstring that is read": (
        "def f(x):\n    'one two'\n    return len(f.__doc__) + x", "def f(x):\n    'one two three'\n    return len(f.__doc__) + x",
    ),
    "names read off a function": (
        "def g(a, b): pass\ndef f(x):\n    return list(g.__code__.co_varnames)",
        "def g(b, a): pass\ndef f(x):\n    return list(g.__code__.co_varnames)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), EFFECTS.values(), ids=EFFECTS)
def test_what_looks_unused_and_is_not(one, other):
    assert program_mark(one) != program_mark(other)


@pytest.mark.slow
def test_argument_names_that_hidden_inputs_use_are_moved_to_the_front(executor):
    """Constants are; names are a reason to refuse, wherever the proposer happened to write them."""
    program = "def f(x, k=1, j=2):\n    return x * k + j"
    inputs = ("1", "2", "3, k=2", "4", "5, k=3", "6", "7", "8, j=4", "9", "10")
    found = executor.submit(Validate(Proposal(Kind.INDUCTION, program, inputs, "m"), fewest=10, most=10)).result()
    assert found.task is not None, found.reason
