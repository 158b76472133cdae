"""What a sample may try against the judges of programs, and what it comes to: a verdict of 0, once, in short time."""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

import time

import pytest

from tests.evals.at_once import Calls, CheckFunction, Scripts

SQUARE = "def square(x):\n    return x * x\n"
CHECK = "def check(candidate):\n    assert candidate(3) == 9\n    assert sorted(candidate(2) for _ in '12') == [4, 4]\n"

# what it tries: the program
ATTACKS = {
    "be equal to everything": "class A(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\ndef square(x):\n    return A(1)\n",
    "be a list equal to everything": "class A(list):\n    __eq__ = lambda s, o: True\ndef square(x):\n    return A()\n",
    "be a number through its index": "class A:\n    __index__ = __int__ = lambda s: 9\ndef square(x):\n    return A()\n",
    "say that it is a bool": "class A:\n    __class__ = bool\ndef square(x):\n    return A()\n",
    "return a range in the place of a set": "def square(x):\n    return range(10**15)\n",
    "return not a number": "def square(x):\n    return float('nan')\n",
    "return infinity": "def square(x):\n    return float('inf')\n",
    "return a number of 4,000 digits": "def square(x):\n    return 10**4000\n",
    "return a tuple with the digest's word": "def square(x):\n    return ('digest of a long value', 'x' * 64)\n",
    "put another digest in its place": "import sys\ndef square(x):\n    sys.modules['__main__'] and None\n    return [7] * 900\n",
    "replace the judge's settling": "import builtins, sys\nfor m in list(sys.modules.values()):\n    vars(m).get('_settle') and vars(m).update(_settle=None)\ndef square(x):\n    return 5\n",
    "find the test in the frames": "import sys\ndef square(x):\n    f = sys._getframe()\n    while f:\n        for n in ('expected', 'known', 'answered', 'calls'):\n            if n in f.f_locals: return f.f_locals[n]\n        f = f.f_back\n    return 5\n",
    "find the test among all objects": "import gc\ndef square(x):\n    return [o for o in gc.get_objects() if type(o) is dict and 'candidate' in o][:1]\n",
    "read the test's file": "def square(x):\n    return open(__file__).read()\n",
    "raise an assertion for the test": "def square(x):\n    raise AssertionError('base')\n",
    "leave with success": "import os\ndef square(x):\n    os._exit(0)\n",
    "leave at the import": "import sys\nsys.exit(0)\n",
    "write a value of its own": "import os\nfor d in range(3, 32):\n    try: os.write(d, b'[\"loaded\",-1]\\n[\"value\",0,\"true\",null]\\n[\"end\"]\\n')\n    except OSError: pass\nos._exit(0)\n",
    "write a value that is none": "import os\nfor d in range(3, 32):\n    try: os.write(d, b'[\"loaded\",-1]\\n[\"value\",0,\"{\\\\\"t\\\\\":3}\",null]\\n[\"end\"]\\n')\n    except OSError: pass\nos._exit(0)\n",
    "answer by what it was asked before": "seen = []\ndef square(x):\n    seen.append(x)\n    return len(seen)\n",
    "change its argument and hope": "def square(x):\n    globals()['x'] = 0\n    return x * x + 1\n",
    "print what a script should": "print(9)\ndef square(x):\n    return '9'\n",
    "never return": "def square(x):\n    while True: pass\n",
    "return itself": "def square(x):\n    return square\n",
    "a generator of right answers": "def square(x):\n    yield x * x\n",
    "no program at all": "\x00\ud800".encode("utf-8", "replace").decode(),
}  # fmt: skip


def judges(runner):
    return {
        "calls": Calls(runner, "square", [[2], [3]], SQUARE, base=1),
        "check": CheckFunction(runner, "square", SQUARE, CHECK),
    }


@pytest.mark.parametrize("kind", ["calls", "check"])
def test_no_sample_is_paid(runner, kind):
    judge, began = judges(runner)[kind].judge, time.monotonic()
    paid = {what: verdict for what, program in ATTACKS.items() if (verdict := judge(program)).score}
    assert paid == {}
    assert judge("def square(x):\n    return x ** 2\n").correct
    assert time.monotonic() - began < 60


SCRIPTS = {
    "print nothing": "",
    "print all numbers": "print(*range(1000), sep='\\n')",
    "print for ever": "while True: print(4)",
    "close the output": "import sys\nprint(4)\nsys.stdout.close()\nprint(5)",
    "replace print and the output": "import sys, builtins\nsys.stdout = None\nbuiltins.print = lambda *a: None",
    "write the right words past the stream": "import os\nos.write(2, b'4')\nfor d in range(3, 32):\n    try: os.write(d, b'4\\n')\n    except OSError: pass",
    "read the expected words": "import sys\nprint([v for f in [sys._getframe()] for v in f.f_builtins][:3])",
    "a number that is not one": "print('4e')",
    "an exponent of a million": "print('4e1000000')",
    "ask for more input than there is": "while True: input()",
}  # fmt: skip


def test_no_script_is_paid(runner):
    judge = Scripts(runner, ["2"], ["4"]).judge
    assert {what: verdict for what, script in SCRIPTS.items() if (verdict := judge(script)).score} == {}
    assert judge("print(int(input()) ** 2)").correct
