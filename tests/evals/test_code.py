"""Programs judged by tests: right ones pass, wrong ones do not, and nothing a program does can forge a verdict."""

import json
import time

import pytest

from azr_jax.evals import plus_rules
from azr_jax.evals.code import (
    CHECK,
    BrokenTest,
    Runner,
    asserts_as_check,
    name_of_tested,
)
from azr_jax.executor.pool import Executor, ExecutorSettings
from tests.evals.at_once import Calls, CheckFunction, Scripts

SQUARE = "def square(x):\n    return x * x\n"
BIG = "def numbers(n):\n    return list(range(n))\n"


def calls(runner, program=SQUARE, name="square", inputs=((2,), (3,), (-1,)), **more):
    return Calls(runner, name, [list(one) for one in inputs], program, **more)


def test_the_canonical_solution_decides(runner):
    judge = calls(runner).judge
    assert judge("def square(n):\n    return n ** 2\n").correct
    assert judge("def square(n):\n    return abs(n) * 3 - 2 if n > 2 else n * n\n").reason == "wrong value"
    assert judge("def cube(n):\n    return n ** 3\n").score == 0


SLOW = """\
import time
def square(x):
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    return x * x
"""
CHECK_SLOW = "def check(candidate):\n    assert candidate(3) == 9\n"


@pytest.mark.parametrize("kind", ["calls", "check"])
def test_a_sample_may_take_as_long_as_the_canonical_solution(runner, kind):
    hasty = Runner(runner.executor, timeout_s=0.3)
    if kind == "calls":
        judge = calls(hasty, SLOW, inputs=((3,),)).judge
    else:
        judge = CheckFunction(hasty, "square", SLOW, CHECK_SLOW).judge
    assert judge(SLOW).correct
    assert judge("def square(x):\n    while True:\n        pass\n").reason == "timeout"


def test_base_tests_alone_are_told_apart(runner):
    """Right on the first input, wrong on the second: passes the one base test and not the others."""
    judge = calls(runner, base=1).judge
    assert judge("def square(n):\n    return 4\n").base
    assert not judge("def square(n):\n    return 5\n").base


def test_no_text_of_a_program_says_that_the_base_tests_are_passed(runner):
    """The word "base" in the detail once did: an exception's message is the program's to choose."""
    for text in ("base", "base: "):
        name = f"type({text!r}, (Exception,), {{}})"
        judged = calls(runner, base=1).judge(f"def square(n):\n    raise {name}({text!r})\n")
        assert judged.score == 0 and not judged.base
    forged = """
import os, json
def square(n):
    line = ["unplain", 0, "base", None]
    for descriptor in range(3, 32):
        try:
            os.write(descriptor, (json.dumps(line) + "\\n" + '["end"]\\n').encode())
        except OSError:
            pass
    os._exit(0)
"""
    judged = calls(runner, base=1).judge(forged)
    assert judged.score == 0 and not judged.base


def test_a_range_is_no_container_for_the_judge():
    """`set(range(10**12))` would take all memory of the judging process, for eight tasks of MBPP+."""
    before = time.monotonic()
    for output in (range(10**12), 7, None, {1: range(10**12)}):
        assert not plus_rules.accepts("similar_elements", [], output, (1, 2), 0.0)
    assert plus_rules.accepts("similar_elements", [], [2, 1, 1], (1, 2), 0.0)
    assert time.monotonic() - before < 0.5


GARBAGE = """
import os
for descriptor in range(3, 32):
    try:
        os.write(descriptor, b'["loaded",-1]\\n["value",0,"{\\\\"c\\\\":5}",null]\\n["end"]\\n')
    except OSError:
        pass
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["scripts", "check", "calls"])
def test_a_forged_value_that_is_none_is_wrong(runner, kind):
    """The child writes a line of its own whose value cannot be decoded: a verdict, not an error of the judge."""
    if kind == "scripts":
        verdict = Scripts(runner, ["1"], ["2"]).judge(GARBAGE)
    elif kind == "check":
        verdict = CheckFunction(runner, "square", SQUARE, CHECK_SLOW).judge(GARBAGE)
    else:
        verdict = calls(runner, inputs=((3,),)).judge(GARBAGE)
    assert (verdict.score, verdict.reason) == (0.0, "wrong value")


FORGERIES = {
    "equal": "class A(int):\n    def __eq__(self, other):\n        return True\ndef square(n):\n    return A(7)\n",
    "another settle": "def square(n):\n    return 7\ndef _settle(*a):\n    return lambda n: n * n * 0 + 7\n",
    "exit": "import sys\ndef square(n):\n    sys.exit(0)\n",
    "hard exit": "import os\ndef square(n):\n    os._exit(0)\n",
    "frames": "import sys\ndef square(n):\n    return sys._getframe(1).f_locals.get('expected', 7)\n",
    "digest": "def square(n):\n    return ('digest of a long value', '0' * 64)\n",
    "digest of nothing": "def square(n):\n    return ('digest of a long value', None)\n",
    "endless": "def square(n):\n    while True:\n        pass\n",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_results_gain_nothing(runner, name):
    assert calls(runner).judge(FORGERIES[name]).score == 0


def test_long_results_are_compared_by_digest(runner):
    """20,000 numbers do not fit through the wall; equal by == is what counts, so floats that are whole are equal."""
    judge = calls(runner, BIG, "numbers", ((20_000,),)).judge
    assert judge("def numbers(n):\n    return [float(i) for i in range(n)]\n").correct
    assert not judge("def numbers(n):\n    return list(range(n - 1)) + [0]\n").correct
    assert not judge("def numbers(n):\n    return tuple(range(n))\n").correct


def test_a_function_called_f_may_call_itself(runner):
    """HumanEval/106 is called f."""
    program = "def f(n):\n    return [] if not n else f(n - 1) + [n]\n"
    assert calls(runner, program, "f", ((300,),)).judge(program).correct


def test_a_canonical_solution_that_fails_is_told(runner):
    with pytest.raises(BrokenTest, match="ZeroDivisionError"):
        calls(runner, "def square(x):\n    return 1 // 0\n").judge(SQUARE)


TEST = "import random\ndef check(candidate):\n    for _ in range(9):\n        x = random.randint(1, 99)\n"
TEST += "        assert candidate(x) == x * x\n"


def test_a_test_function_runs_on_answers_and_not_beside_the_program(runner):
    judge = CheckFunction(runner, "square", SQUARE, TEST).judge
    assert judge("def square(n):\n    return n ** 2\n").correct
    assert judge("def square(n):\n    return n ** 3\n").reason == "wrong value"
    assert judge("def square(n):\n    raise KeyError(n)\n").reason == "raised"
    assert judge("def check(candidate):\n    pass\ndef square(n):\n    return 0\n").score == 0


def test_asserts_of_mbpp_become_a_test(runner):
    asserts = ["assert check([1, 2]) == 3", "assert check([]) == 0, 'nothing'"]
    program = "def helper(x):\n    return sum(x)\ndef check(x):\n    return helper(x)\n"
    assert name_of_tested(program, asserts) == "check"
    judge = CheckFunction(runner, "check", program, asserts_as_check("check", "", asserts), CHECK).judge
    assert judge("check = sum\n").correct
    assert not judge("def check(x):\n    return 3\n").correct


def test_scripts_are_fed_and_heard(runner):
    scripts = Scripts(runner, ["3\n1 2 3\n", "1\n5\n"], ["6\n", "5"])
    right = "n = int(input())\nif __name__ == '__main__':\n    print(sum(map(int, input().split())), ' ')\n"
    assert scripts.judge(right).correct
    assert scripts.judge("import sys\nn, *rest = sys.stdin.read().split()\nprint(float(sum(map(int, rest))))\n").correct
    assert scripts.judge("print(6)\n").reason == "wrong value"
    assert scripts.judge("print(int('x'))\n").reason == "raised"
    assert scripts.judge("exit()\n").reason == "wrong value"


SUM_OF_SCRIPT = "n, *rest = map(int, {text}.split())\nassert n == len(rest)\n{tell}\n"
IDIOMS = {
    "open": ("open(0).read()", "print(sum(rest))"),
    "open bytes": ("open(0, 'rb').read()", "print(sum(rest))"),
    "buffer": ("sys.stdin.buffer.read()", "sys.stdout.buffer.write(b'%d' % sum(rest))"),
    "read": ("os.read(0, 10**6)", "os.write(1, str(sum(rest)).encode())"),
    "number of the stream": ("open(sys.stdin.fileno()).read()", "print(sum(rest), file=open(1, 'w'))"),
    "readline": ("(sys.stdin.readline() + ' ' + input())", "sys.stdout.write(str(sum(rest)))"),
    "exit": ("sys.stdin.read()", "print(sum(rest))\nexit()"),
    "exit with an error": ("sys.stdin.read()", "print(sum(rest))\nsys.exit(1)"),
    "hard exit": ("sys.stdin.read()", "print(sum(rest), flush=True)\nos._exit(0)"),
    "close": ("sys.stdin.read()", "print(sum(rest))\nsys.stdout.close()"),
    "at exit": ("sys.stdin.read()", "import atexit\natexit.register(lambda: print(sum(rest)))"),
    "thread": (
        "sys.stdin.read()",
        "import threading\nthreading.stack_size(2**26)\nt = threading.Thread(target=lambda: print(sum(rest)))\n"
        "t.start()\nt.join()",
    ),
    "with": ("open(0).read()", "with open(1, 'w') as out:\n    out.write(str(sum(rest)))"),
}


@pytest.mark.parametrize("idiom", IDIOMS)
def test_scripts_read_and_print_in_their_many_ways(runner, idiom):
    text, tell = IDIOMS[idiom]
    script = "import os, sys\n" + SUM_OF_SCRIPT.format(text=text, tell=tell)
    assert Scripts(runner, ["3\n1 2 3\n", "1\n5\n"], ["6\n", "5"]).judge(script).correct
    wrong = Scripts(runner, ["3\n1 2 3\n", "1\n5\n"], ["6\n", "4"]).judge(script)
    assert (wrong.score, wrong.reason) == (0.0, "wrong value")


@pytest.mark.parametrize(
    ("expected", "printed", "right"),
    [
        ("1", "1.0", True),
        ("0.50 1e3", "0.5 1000", True),
        ("1000000000000000001", "1000000000000000000", False),
        ("inf", "Infinity", False),
        ("-0", "0", True),
        ("yes 1", "yes 1.0", False),
        ("\n".join(["0.5"] * 200), "\n".join(["0.50"] * 200), True),
        ("\n".join(["0.5"] * 200), "\n".join(["0.50"] * 199 + ["0.51"]), False),
        ("a\n\nb", "a\n \nb \n", True),
        ("a b", "a  b", False),
    ],
)
def test_printed_numbers_are_compared_as_numbers(runner, expected, printed, right):
    assert Scripts(runner, [""], [expected]).judge(f"print({printed!r})\n").correct is right


def test_inputs_larger_than_a_message_reach_the_program(runner):
    """700 kB and more: what hidden tests of contests have. The wrong answer shows that the input is read."""
    patient = Runner(runner.executor, timeout_s=20.0)
    numbers = list(range(100_000, 200_000))
    text = f"{len(numbers)}\n{' '.join(map(str, numbers))}\n"
    scripts = Scripts(patient, ["1\n7\n", text], ["7", str(sum(numbers))])
    assert scripts.judge("input()\nprint(sum(map(int, input().split())))\n").correct
    assert scripts.judge("input()\nprint(max(map(int, input().split())))\n").reason == "wrong value"
    of_lists = Calls(patient, "total", [[numbers[:30_000]], ["x" * 300_000]], "", known=[30_000, 300_000])
    assert of_lists.judge("def total(x):\n    return len(x)\n").correct
    assert not of_lists.judge("def total(x):\n    return len(x) - 1\n").correct


def test_after_a_timeout_the_other_large_inputs_are_not_tried(runner):
    inputs = [f"{n}{'0' * 120_000}" for n in range(1, 9)]  # one batch each
    started = time.monotonic()
    assert Scripts(Runner(runner.executor, 0.5), ["1", *inputs], ["1"] * 9).judge(HANGS_ON_LONG).reason == "timeout"
    assert time.monotonic() - started < 6


HANGS_ON_LONG = "text = input()\nwhile len(text) > 1:\n    pass\nprint(text)\n"
NAMED_F = "def f(x):\n    return x - 1\n_size = _settle = None\ndef square(n):\n    return (f(n) + 1) ** 2\n"
RECURSIVE = "import sys\nsys.setrecursionlimit(10**6)\ndef deep(n):\n    return n and 1 + deep(n - 1)\n"


def test_names_of_the_program_are_its_own(runner):
    assert calls(runner).judge(NAMED_F).correct
    assert CheckFunction(runner, "square", SQUARE, CHECK_SLOW).judge(NAMED_F).correct
    assert calls(runner).judge("from __future__ import annotations\n" + SQUARE).correct
    assert calls(runner).judge("x = 1\n\nfrom __future__ import annotations\n" + SQUARE).correct


def test_a_program_keeps_its_recursion_limit(runner):
    assert calls(runner, RECURSIVE, "deep", ((5_000,), (6_000,), (7_000,))).judge(RECURSIVE).correct


@pytest.mark.parametrize(
    ("expected", "answered", "right"),
    [
        ("list(range(300))", "[float(i) for i in range(300)]", True),
        ("[i / 1 for i in range(300)]", "list(range(300))", True),
        ("list(range(300))", "[i + 0.5 for i in range(300)]", False),
        ("{str(i): i for i in range(200)}", "collections.OrderedDict((str(i), i) for i in range(200))", True),
        ("{str(i): i for i in range(200)}", "collections.Counter({str(i): i for i in range(200)})", True),
        ("{'a': 1}", "collections.defaultdict(lambda: 0, a=1)", True),
        ("[1, 2]", "[enum.IntEnum('E', 'one').one, 2]", True),
        ("(1, 2)", "collections.namedtuple('P', 'x y')(1, 2)", True),
        ("(1, 2)", "collections.namedtuple('P', 'x y')(1, 3)", False),
        ("[1]", "(1,)", False),
    ],
)
def test_equal_values_of_other_types_are_equal(runner, expected, answered, right):
    program = "import collections, enum\ndef make():\n    return "
    assert calls(runner, program + expected, "make", ((),)).judge(program + answered).correct is right


def test_long_prints_are_compared_by_digest(runner):
    scripts = Scripts(runner, ["30000"], ["\n".join(map(str, range(30_000)))])
    assert scripts.judge("for i in range(int(input())):\n    print(i)\n").correct
    assert not scripts.judge("for i in range(int(input())):\n    print(i + (i == 777))\n").correct


def test_methods_of_contests(runner):
    known = [json.loads("[1, 2]"), json.loads("[]")]
    judge = Calls(runner, "firsts", [[[1, 2, 3], 2], [[], 1]], "", known=known).judge
    assert judge("class Solution:\n    def firsts(self, values, n):\n        return tuple(values[:n])\n").correct
    assert judge("def firsts(values, n):\n    return values[:n]\n").correct
    assert not judge("class Solution:\n    def firsts(self, values, n):\n        return values\n").correct


@pytest.mark.parametrize(
    ("name", "inputs", "output", "expected", "atol", "right"),
    [
        ("g", [1], 1.0000001, 1.0, 0, True),  # floats are compared with 1e-6 where no tolerance is given
        ("g", [1], 1.00001, 1.0, 0, False),
        ("g", [1], 1.00001, 1.0, 1e-4, True),
        ("g", [1], [0.1 + 0.2], [0.3], 0, True),
        ("g", [1], (0.3,), [0.3], 0, False),
        ("g", [1], 2, 1, 0, False),
        ("g", [1], "a", 1.0, 0, False),
        ("find_zero", [[-4.0, 0.0, 1.0]], 2.0, 0.0, 1e-4, True),  # any root of x^2 - 4
        ("find_zero", [[-4.0, 0.0, 1.0]], -2.0, 2.0, 1e-4, True),
        ("find_zero", [[-4.0, 0.0, 1.0]], 1.9, 2.0, 1e-4, False),
        ("similar_elements", [(1, 2), (2, 3)], [2], (2,), 0, True),
        ("similar_elements", [(1, 2), (2, 3)], None, (2,), 0, False),
        ("surface_Area", [3, 4], 33, 0, 0, False),  # 9 + 6 * sqrt(1.5^2 + 16) = 34.6, so 35
        ("surface_Area", [3, 4], 35, 0, 0, True),
        ("digit_distance_nums", [1, 256], 2 + 5 + 5, 0, 0, True),
    ],
)
def test_rules_beyond_equality(name, inputs, output, expected, atol, right):
    assert plus_rules.accepts(name, inputs, output, expected, atol) is right


def test_types_that_json_lost_come_back():
    assert plus_rules.restored("Mbpp/2", [[[1, 2], [3]]]) == [[(1, 2), (3,)]]
    assert plus_rules.restored("Mbpp/63", [[[[1, 2], [3, 4]]]]) == [[[(1, 2), (3, 4)]]]
    assert plus_rules.restored("Mbpp/115", [[[[1, 1], []]]]) == [[[{1}, {}]]]
    assert plus_rules.restored("Mbpp/252", [["(1+2j)"]]) == [[1 + 2j]]
    assert plus_rules.restored("Mbpp/580", [[[1, [2, [3]]]]]) == [[(1, (2, (3,)))]]
    assert plus_rules.restored("HumanEval/2", [[[1]]]) == [[[1]]]


def test_the_one_input_that_is_left_out_is_named():
    huge = [["Dog", "Cat", "CatBird", "Bird", "Fish"], 77]
    assert plus_rules.restored("Mbpp/255", [[["a"], 2], huge]) == [[["a"], 2]]
    assert plus_rules.restored("Mbpp/256", [huge]) == [huge]


NUMPY = "import numpy as np\n\n\ndef add(a, b):\n    return np.add(a, b)[()]\n"


def test_a_program_that_imports_numpy_is_judged_where_the_user_lets_it_in(runner):
    """EvalPlus and LiveCodeBench have it installed; without `--packages=numpy` such a program fails."""
    canonical = "def add(a, b):\n    return a + b\n"

    def verdicts(running):
        calls = Calls(running, "add", [[1, 2], [0.5, 1]], canonical)
        check = CheckFunction(running, "add", canonical, "def check(f):\n    assert f(1, 2) == 3\n")
        scripts = Scripts(running, ["1 2\n"], ["3\n"])
        script = "import numpy as np\nprint(np.array(input().split(), int).sum())"
        wrong = NUMPY.replace("add(a, b)[", "subtract(a, b)[")
        return [calls.judge(NUMPY), check.judge(NUMPY), scripts.judge(script), calls.judge(wrong)]

    settings = ExecutorSettings(timeout_s=10.0, memory_mb=2048, workers=1, allow_weak=True, packages=("numpy",))
    with Executor(settings) as executor:
        assert [verdict.score for verdict in verdicts(Runner(executor, timeout_s=10.0))] == [1.0, 1.0, 1.0, 0.0]
    assert {verdict.score for verdict in verdicts(runner)} == {0.0}
