"""Rewrites of programs: they say what they drop, and hand back what they cannot read."""

import pytest

from azr_jax.tasks.programs import (
    arguments,
    calls_parts,
    join_parts,
    rename_part,
    without_comments,
    without_globals,
)

PROGRAM = '''"""What this file is."""
import math
LIMIT = 3  # not more

def f(x):
    """Cuts x."""
    # here
    return min(x, LIMIT)
'''


def test_comments_and_docstrings_go():
    assert without_comments(PROGRAM) == "import math\nLIMIT = 3\n\ndef f(x):\n    return min(x, LIMIT)"
    assert without_comments('def f(x):\n    """Nothing."""') == "def f(x):\n    pass"


def test_a_hash_in_a_string_is_no_comment():
    assert without_comments("def f(x):\n    return '# ' + x  # yes") == "def f(x):\n    return '# ' + x"


def test_globals_go_and_imports_and_definitions_stay():
    source = "import math\nA = 1\nprint(A)\nclass C:\n    pass\n\ndef f(x):\n    return x"
    assert without_globals(source) == "import math\n\nclass C:\n    pass\n\ndef f(x):\n    return x"
    assert without_globals("A = 1") == "A = 1", "nothing would be left"


@pytest.mark.parametrize("rewrite", [without_comments, without_globals])
def test_what_is_no_program_comes_back_unchanged(rewrite):
    for text in ("def f(x:", "", "\0", "(" * 500, "'\ud800'"):
        assert rewrite(text) == text


def test_parts_are_renamed_so_that_they_do_not_meet():
    one = "N = 2\n\ndef helper(a):\n    return a * N\n\ndef f(x):\n    return helper(x)"
    two = "N = 3\n\ndef f(x):\n    return f(x - 1) if x else N"
    program = "def f(x):\n    return g1(x) + g2(x)"
    assert calls_parts(program, 2) and not calls_parts(program, 3)
    whole = join_parts(program, [rename_part(one, 1), rename_part(two, 2)])
    expected = """N_1 = 2

def helper_1(a):
    return a * N_1

def g1(x):
    return helper_1(x)

N_2 = 3

def g2(x):
    return g2(x - 1) if x else N_2

def f(x):
    return g1(x) + g2(x)"""
    assert whole == expected


@pytest.mark.parametrize(
    "program",
    [
        "def f(x):\n    return x",  # does not call it
        "def g1(x):\n    return 0\n\ndef f(x):\n    return g1(x)",  # writes its own
        "g1 = str\n\ndef f(x):\n    return g1(x)",
        "def f(g1):\n    return g1(1)",
        "from math import floor as g1\n\ndef f(x):\n    return g1(x)",
        "def f(x):\n    match x:\n        case {**g1}:\n            return g1(x)",
        "def f(x):\n    try:\n        return g1(x)\n    except ValueError as g1:\n        pass",
        "def f(x):\n    return 'g1'",
        "not a program",
    ],
)
def test_a_program_that_only_seems_to_call_what_it_was_given(program):
    assert not calls_parts(program, 1)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("def g(x): return x", "does not define f"),
        ("def f(", "is not a program"),
        ("n = 1\ndef f(n): return n", "uses the top-level name n as a parameter too"),
        ("n = 1\ndef f(x): return dict(n=x)", "uses the top-level name n as a parameter too"),
    ],
)
def test_a_part_that_cannot_be_renamed_safely_is_refused(part, why):
    with pytest.raises(ValueError, match=f"part 4 {why}"):
        rename_part(part, 4)


@pytest.mark.parametrize("text", ["", "1", "1, 2", "x=1", "*[1], **{}", "1 # one", "'a'\n,2"])
def test_argument_lists(text):
    assert arguments(text) is not None


@pytest.mark.parametrize("text", ["1)(2", "1) + f(2", ")", "x y", "1)\nf(2", "(" * 300, "\0"])
def test_no_argument_lists(text):
    assert arguments(text) is None
