"""When two tasks are the same: what a copy may change about itself without becoming a new task, and what it may not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.tasks.sameness import normal_form, program_mark, task_mark
from azr_jax.tasks.types import InductionTask, Triplet

PROGRAM = """import math

def part(n):
    return math.floor(n / 2)

def f(xs, most):
    total = 0
    for x in xs:
        if x < most:
            total += part(n=x)
    return total"""
LAID_OUT = '''import math  # for floor
"""A module."""
def part(n):
    """Halves."""
    "still the same"
    return (math.floor(n / 0x2))
def f(xs, most):
    # adds up
    total = 0; pass
    for x in xs:
        if x < most: total += part(n=x)
    return total
'''
RENAMED = """import math as m

def half(value):
    return m.floor(value / 2)

def f(numbers, limit):
    s = 0
    for number in numbers:
        if number < limit:
            s += half(value=number)
    return s"""
ANNOTATED = PROGRAM.replace("(n)", "(n: int) -> int").replace("total = 0", "total: int = 0")
PADDED = """import sys, math
from os import path as p
KEY = 'never read'
def never(): return also_never()
def also_never(): return 1
class Nothing: pass
""" + PROGRAM.removeprefix("import math\n").replace("    total = 0", "    unused = 1\n    total = 0")
COPIES = {"laid out": LAID_OUT, "renamed": RENAMED, "annotated": ANNOTATED, "padded": PADDED}
# Each of these once made a copy pass as a new task.
COPIES |= {
    name: PROGRAM.replace("def f", f"{unused}\ndef f")
    for name, unused in {
        "calls itself": "def g():\n    return g()",
        "call each other": "def g(): return h()\ndef h(): return g()",
        "a chain": "def a(): return b()\ndef b(): return c()\ndef c(): return d()\ndef d(): return 1",
        "makes itself": "class A:\n    def m(self): return A()",
        "inside": "def a():\n    def b(): return b()\n    return math.sqrt(2)",
        "negative": "Z = -1",
        "a list": "Z = [1, (2, -3)]",
        "in two names": "Z = Y = ()",
        "bare": "(1, 2)\n-1\n[]",
    }.items()
}
COPIES |= {
    "behind the return": PROGRAM + "\n    total = 1\n    return most",
    "behind both branches' ends": PROGRAM.replace("            total +=", "            pass\n            total +=")
    + "\n    while True:\n        break",
    "never taken": PROGRAM.replace("    total = 0", "    if False:\n        xs = most\n    total = 0"),
    "never begun": PROGRAM.replace("    total = 0", "    while 0:\n        total = 5\n    else:\n        total = 0"),
    "always taken": PROGRAM.replace("    total = 0", "    if True:\n        total = 0\n    else:\n        total = 9"),
    "a choice of one": PROGRAM.replace("total = 0", "total = 0 if 1 else most"),
    "itself": PROGRAM.replace("    total = 0", "    xs = xs\n    total = 0"),
    "of the module": "if False:\n    K = 5\n" + PROGRAM,
}
OTHERS = {
    "another constant": PROGRAM.replace("/ 2", "/ 3"),
    "another function": PROGRAM.replace("floor", "ceil"),
    "another library": PROGRAM.replace("import math", "import cmath as math"),
    "another comparison": PROGRAM.replace("<", ">"),
    "names changed round": PROGRAM.replace("x < most", "x < total"),
    "parameters changed round": PROGRAM.replace("f(xs, most)", "f(most, xs)"),
    "something added": PROGRAM.replace("return total", "return total + 0"),
}  # fmt: skip


def task(program: str, given: str = "[1, 2], 9", value: str = "1") -> Triplet:
    return Triplet(program, given, "", value)


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_in_other_clothes_is_the_same_task(copy):
    compile(copy, "copy", "exec")
    assert task_mark(task(copy, "[1,2] ,9 # nine")) == task_mark(task(PROGRAM))


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_program_is_another_task(other):
    assert task_mark(task(other)) != task_mark(task(PROGRAM))


def test_another_input_or_another_output_is_another_task():
    marks = {task_mark(task(PROGRAM, *of)) for of in (("[1, 2], 9", "1"), ("[1, 3], 9", "1"), ("[1, 2], 9", "2"))}
    assert len(marks) == 3


def test_which_function_is_called_is_told_apart():
    one = "def f(x):\n    return g(x)\ndef g(x):\n    return f(x)"
    assert program_mark(one) == program_mark(one.replace("g", "h"))
    assert program_mark(one) != program_mark(one.replace("f", "q").replace("g", "f").replace("q", "g"))


def test_a_keyword_of_the_library_is_no_name_of_the_program():
    program = "def f(xs, key):\n    return sorted(xs, key=key)"
    assert program_mark(program) == program_mark("def f(xs, k):\n    return sorted(xs, key=k)")
    assert program_mark(program) != program_mark("def f(xs, reverse):\n    return sorted(xs, reverse=reverse)")


def test_what_looks_unused_and_is_not_stays():
    fields = (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n    y: int\ndef f(a):\n    return A(a, a)"
    )
    assert program_mark(fields) != program_mark(fields.replace("    y: int\n", ""))
    method = "class A:\n    def size(self):\n        return 1\ndef f(a):\n    return A().size()"
    assert program_mark(method) != program_mark(method.replace("return 1", "return 2"))
    by_text = "n = 3\ndef f(a):\n    return eval('n')"
    assert program_mark(by_text) != program_mark(by_text.replace("n = 3\n", ""))
    by_another = "n = [1]\ndef g():\n    return n\ndef h():\n    return g()\ndef f(a):\n    return h()"
    assert program_mark(by_another) != program_mark(by_another.replace("[1]", "[2]"))
    assert program_mark(by_another) != program_mark(by_another.replace("h()", "g()", 1))
    counted = "def f(a):\n    n = 0\n    n += a\n    return a"
    assert program_mark(counted) != program_mark(counted.replace("    n = 0\n", ""))


def test_cases_of_an_induction_task_may_come_in_another_order_and_its_message_may_say_anything():
    one = InductionTask(PROGRAM, ("1", "2"), ("", ""), ("a", "b"), "Adds.", 1)
    again = InductionTask(RENAMED, ("2 ", "1"), ("", ""), ("b", "a"), "Sums up.", 1)
    crossed = InductionTask(PROGRAM, ("2", "1"), ("", ""), ("a", "b"), "Adds.", 1)
    more = InductionTask(PROGRAM, ("1", "2", "3"), ("", "", ""), ("a", "b", "c"), "Adds.", 1)
    assert task_mark(one) == task_mark(again)
    assert len({task_mark(task) for task in (one, crossed, more)}) == 3


@settings(deadline=None)
@given(st.text(max_size=40), st.lists(st.text(max_size=10), max_size=3))
def test_any_text_has_a_mark(program, inputs):
    def mark(inputs: list[str]) -> bytes:
        same = ("v",) * len(inputs)
        return task_mark(InductionTask(program, tuple(inputs), same, same, "", 1))

    assert len(mark(inputs)) == 16 and mark(inputs) == mark(inputs[::-1]) != mark([*inputs, "1"])


@pytest.mark.parametrize("program", ["def f(x):\n    return " + "-" * 3000 + "x", "(" * 10_000, "\0", "\ud800"])
def test_strange_programs_have_a_form_of_their_own(program):
    assert normal_form(program) == program.strip()


def test_a_method_under_an_if_is_a_method():
    """It was taken for a function that nobody calls, and its name for one that may be any."""
    program = "class A:\n    if True:\n        def size(self):\n            return 1\ndef f(a):\n    return A().size()"
    assert program_mark(program) != program_mark(program.replace("return 1", "return 2"))
    assert program_mark(program) != program_mark(program.replace("def size", "def length"))
    tried = program.replace("if True:", "try:").replace("return 1\n", "return 1\n    except E:\n        pass\n")
    assert program_mark(tried) != program_mark(tried.replace("return 1", "return 2"))
    field = "class A:\n    size = 1\ndef f(a):\n    return A.size"
    assert program_mark(field) != program_mark(field.replace("    size", "    length"))


@pytest.mark.parametrize(
    ("program", "other"),
    [
        ("def f(x):\n    return x\n    yield", "def f(x):\n    return x"),
        ("def f(x):\n    g = k\n    return g\n    k = 1\nk = 2", "def f(x):\n    g = k\n    return g\nk = 2"),
        ("def f(x):\n    if False:\n        global k\n    k = x\n    return k", "def f(x):\n    k = x\n    return k"),
        ("def f(n):\n    return eval('n')", "def f(m):\n    return eval('n')"),
        (
            "def g(**k):\n    return k\ndef f(a):\n    return g(a=a)",
            "def g(**k):\n    return k\ndef f(b):\n    return g(b=b)",
        ),
        ("def g(): pass\ndef f(a):\n    return g.__name__", "def h(): pass\ndef f(a):\n    return h.__name__"),
    ],
)
def test_what_looks_dead_or_nameless_and_is_not(program, other):
    assert program_mark(program) != program_mark(other)


@pytest.mark.parametrize("given", ["x=5", "5, 1", "y=1, x=5", "5, y=1", " 5 , 0x1", "(5)"])
def test_an_input_by_name_or_with_its_defaults_is_the_same(given):
    program = "def f(x, y=1):\n    return x + y"
    assert task_mark(task(program, given)) == task_mark(task(program, "5"))
    assert task_mark(task(program, given)) != task_mark(task(program, "5, 2"))


_ATOMS = st.sampled_from(["a", "b", "k", "1", "2"])
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda e: (
        st.builds("({} {} {})".format, e, st.sampled_from(["+", "-", "*", "or", "<"]), e)
        | st.builds("({} if {} else {})".format, e, st.sampled_from(["True", "0", "a"]), e)
    ),
    max_leaves=5,
)
_NAMES = st.sampled_from(["a", "b", "k", "m"])
_PLAIN = st.one_of(
    st.builds("{} = {}".format, _NAMES, _EXPRESSIONS), st.builds("return {}".format, _EXPRESSIONS),
    st.builds("{0} = {0}".format, _NAMES), st.builds("{} += {}".format, _NAMES, _EXPRESSIONS), st.just("pass"),
)  # fmt: skip


def _block(statements: list[str]) -> str:
    return "\n".join("    " + line for one in statements for line in one.split("\n"))


_STATEMENTS = st.recursive(
    _PLAIN,
    lambda s: st.builds(
        "if {}:\n{}\nelse:\n{}".format, st.sampled_from(["True", "False", "a", "a < b"]),
        st.lists(s, min_size=1, max_size=3).map(_block), st.lists(s, min_size=1, max_size=2).map(_block),
    ) | st.builds("while 0:\n{}".format, st.lists(s, min_size=1, max_size=2).map(_block)),
    max_leaves=6,
)  # fmt: skip


def _outcomes(program: str) -> list[object]:
    found: list[object] = []
    for given_to in ((0, 0), (1, 2), (3, 1), (-1, 5)):
        space: dict = {}
        exec(program, space)
        try:
            found.append(space["f"](*given_to))
        except Exception as error:
            found.append(type(error))
    return found


@settings(deadline=None, max_examples=400)
@given(st.lists(_STATEMENTS, min_size=1, max_size=4), st.data())
def test_equal_forms_give_equal_outputs(statements, data):
    """A program, and the same with a statement more or less: where their forms agree, so do all their outputs."""
    first = f"k = 7\ndef f(a, b):\n{_block(statements)}\n    return a - b"
    place = data.draw(st.integers(0, len(statements)))
    more = [*statements[:place], data.draw(_STATEMENTS), *statements[place:]]
    changed = [data.draw(st.sampled_from([more, statements[:place] + statements[place + 1 :], statements[::-1]]))]
    other = f"k = 7\ndef f(a, b):\n{_block(changed[0] or ['pass'])}\n    return a - b"
    pairs = list(zip(_outcomes(first), _outcomes(other)))
    if program_mark(first) == program_mark(other):  # a task is a call that does not fail
        assert all(a == b for a, b in pairs if not isinstance(a, type) and not isinstance(b, type)), (first, other)
    marks = {task_mark(Triplet(program, "0, 0", "", ""), failing=True) for program in (first, other)}
    assert len(marks) == 2 or [a for a, _ in pairs[:1]] == [b for _, b in pairs[:1]], "to fail is what is asked for"
