"""Attacks by somebody who had not written the sandbox, each under the words for what it tries.

MEMORY writes where no list looked: on what a decorator, a metaclass or an enumeration is told of. ORDER makes sets,
whose order goes by addresses, without the word. DEPTH goes on after an exception that it does not name, and so learns
how deep it can go. INSIDE looks for what differs from one child to the next: in the frames it runs in, and in what
they hold. HIDDEN leads to a module that nobody may import. NESTED are values that were compared or shown 2**30 times.
LONG are programs for those who read an accepted one. WRONG are answers that are not the gold; PROGRAMS are answers to
an induction task that equal everything.
"""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

_TRIED = "    try:\n        {0}\n        n = {1}\n    except {2}:\n        n = {3}\n"
_ADDED = "import {1}\ndef f(x):\n" + _TRIED.format("{2}", "True", "AttributeError", "False") + "    {0}\n    return n"
_ABSTRACT = (
    "import abc{1}\ndef f(x):\n"
    + _TRIED.format("abc.ABCMeta('A', (), {{'g': f}})()", "False", "TypeError", "True")
    + "    {0}\n    return n"
)
MEMORY = {
    "a name put into math": _ADDED.format("enum.global_enum(enum.Enum('E', 'k', module='math'))", "enum, math", "math.k"),
    "a name put into a module by another door": _ADDED.format("re.enum.global_enum(re.enum.Enum('E', 'k', module='re'))", "re", "re.k"),
    "a flag put into operator": _ADDED.format("enum.global_enum(enum.Flag('E', 'k', module='operator'))", "enum, operator", "operator.k"),
    "the decorator by its name": "import math\nfrom enum import global_enum as g, IntEnum as E\ndef f(x):\n    try:\n        math.k\n        n = True\n    except AttributeError:\n        n = False\n    g(E('E', 'k', module='math'))\n    return n",
    "the constructor alone by its name": "import math\nfrom enum import Enum as E\nimport enum as m\ndef f(x):\n    try:\n        math.k\n        n = True\n    except AttributeError:\n        n = False\n    m.global_enum(E('E', 'k', module='math'))\n    return n",
    "its own globals": "import enum\ndef f(x):\n    try:\n        k\n        n = True\n    except NameError:\n        n = False\n    enum.global_enum(enum.Enum('E', 'k', module='program'))\n    return n",
    "abstract by and by": _ABSTRACT.format("abc.abstractmethod(f)", ""),
    "the same out of typing": _ABSTRACT.format("typing.abstractmethod(f)", ", typing"),
    "the same out of numbers": _ABSTRACT.format("numbers.abstractmethod(f)", ", numbers"),
    "the same by a name of its own": "from abc import ABCMeta as M, abstractmethod as a\ndef f(x):\n    try:\n        M('A', (), {'g': f})()\n        n = False\n    except TypeError:\n        n = True\n    a(f)\n    return n",
    "abstract by mapping": _ABSTRACT.format("list(map(abc.abstractmethod, [f]))", ""),
    "a helper made abstract": "import abc\ndef g(): pass\ndef f(x):\n    try:\n        abc.ABCMeta('A', (abc.ABC,), {'g': g})()\n        n = False\n    except TypeError:\n        n = True\n    abc.abstractmethod(g)\n    return n",
}  # fmt: skip

_FULL = "    d = dict.fromkeys(range(5000))\n    d[{0}] = 1\n    k = d.{1}()\n"
ORDER = {
    "keys under a name": "def f(x):\n" + _FULL.format("f", "keys") + "    return [*(k | k)].index(f) // 512 % 2",
    "keys of builtins": "def f(x):\n" + _FULL.format("len", "keys") + "    return [*(k | [])].index(len) // 512 % 2",
    "items under a name": "def f(x):\n" + _FULL.format("f", "items") + "    return [*(k & k)].index((f, 1)) // 512 % 2",
    "a difference": "def f(x):\n" + _FULL.format("f", "keys") + "    return [*(k - [])].index(f) // 512 % 2",
    "a difference of both": "def f(x):\n" + _FULL.format("f", "keys") + "    return [*(k ^ [])].index(f) // 512 % 2",
    "in place": "def f(x):\n" + _FULL.format("f", "keys") + "    k |= {}.keys()\n    return [*k].index(f) // 512 % 2",
    "by operator": "import operator\ndef f(x):\n" + _FULL.format("f", "keys") + "    return [*operator.or_(k, k)].index(f) // 512 % 2",
    "by its name": "from operator import and_ as both\ndef f(x):\n" + _FULL.format("f", "keys") + "    return [*both(k, k)].index(f) // 512 % 2",
    "the method under a name": "def f(x):\n    d = dict.fromkeys(range(5000))\n    d[f] = 1\n    k = d.keys\n    return [*(k() | k())].index(f) // 512 % 2",
    "numbers that are none": "def f(x):\n    s = {*range(5000), *[float('nan') for _ in range(300)]}\n    return [n == n for n in s].index(False) // 64 % 2",
    "the same by a difference": "def f(x):\n    s = {*range(5000), *[1e999 - 1e999 for _ in range(300)]}\n    return [n == n for n in s].index(False) // 64 % 2",
    "the same by a constant": "import math\ndef f(x):\n    s = {*range(5000), *[math.nan * n for n in range(300)]}\n    return [n == n for n in s].index(False) // 64 % 2",
}  # fmt: skip

_DEEP = "def f(x):\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n        g()\n"
DEPTH = {
    "two kinds of exceptions": _DEEP + "    try:\n        g()\n    except (Exception, KeyError):\n        return n",
    "its parent": _DEEP + "    try:\n        g()\n    except RuntimeError:\n        return n",
    "its parent in a tuple": _DEEP + "    try:\n        g()\n    except (KeyError, RuntimeError):\n        return n",
    "another name of it": _DEEP + "    E = Exception\n    try:\n        g()\n    except E:\n        return n",
    "out of a table": _DEEP + "    try:\n        g()\n    except [Exception][0]:\n        return n",
    "a return at last": _DEEP + "    try:\n        g()\n    finally:\n        return n",
    "a break at last": _DEEP + "    while True:\n        try:\n            g()\n        finally:\n            break\n    return n",
    "a continue at last": _DEEP + "    for _ in x:\n        try:\n            g()\n        finally:\n            continue\n    return n",
    "a context of its own": "class C:\n    def __enter__(s): pass\n    def __exit__(s, *a): return True\n" + _DEEP + "    with C():\n        g()\n    return n",
    "a finaliser": _DEEP + "    class A:\n        def __del__(s): g()\n    A()\n    return n",
    "a generator that is dropped": _DEEP + "    def h():\n        try:\n            yield\n        finally:\n            g()\n    i = h()\n    next(i)\n    del i\n    return n",
    "a class without its word": _DEEP + "    t = type\n    t('A', (), {'__del__': lambda s: g()})()\n    return n",
    "a group": _DEEP + "    try:\n        g()\n    except* RecursionError:\n        pass\n    return n",
}  # fmt: skip

_FRAMES = "import sys\ndef get(o, n): return eval('get' + 'attr')(o, n)\ndef f(x):\n    g, out = get(sys, '_get' + 'frame')(), []\n    while g is not None:\n        d = get(g, 'f_lo' + 'cals')\n{0}\n        g = get(g, 'f_ba' + 'ck')\n    return out"
_OBJECTS = "import timeit\ngc = eval('timeit.g' + 'c')\ndef f(x):\n    return {0}"
INSIDE = {
    "numbers of the frames": _FRAMES.format("        out += [(k, d[k]) for k in d if type(d[k]) in (int, float, bool, bytes)]"),
    "texts of the frames": _FRAMES.format("        out += [(k, d[k][-200:]) for k in d if type(d[k]) is str and '#' not in d[k]]"),
    "names of the frames": _FRAMES.format("        out += [k for k in d]"),
    "what the zygote knows of its turn": _FRAMES.format("        out += [repr(d[k]) for k in d if type(d[k]).__name__ in ('_Turn', '_Child')]"),
    "when it began": _FRAMES.format("        out += [int(d['started']) // 2 % 2 for _ in '1' if 'started' in d]"),
    "how many came before": _FRAMES.format("        out += [d['number'] // 2 % 2 for _ in '1' if type(d.get('number')) is int and 'handed' in d]"),
    "what the one before cost": _FRAMES.format("        out += [d[k] for k in ('wall_us', 'cpu_us', 'usage', 'reply') if k in d and not hasattr(d[k], 'n_fields')]"),
    "children of the zygote": _OBJECTS.format("[(type(o).__name__, o.pid) for o in gc.get_objects() if type(o).__name__ == '_Child']"),
    "what they used": _OBJECTS.format("[tuple(o) for o in gc.get_objects() if type(o).__name__ == 'struct_rusage']"),
    "the time of this run": "import resource\ndef f(x):\n    return resource.getrlimit(resource.RLIMIT_CPU)",
    "how much room is allocated for": "import timeit\ndef f(x):\n    n = [0]\n    class A:\n        def __del__(s): n[0] = len(kept)\n    a, kept = A(), []\n    a.me = a\n    del a\n    while not n[0]: kept.append([])\n    return n[0]",
    "when a file was looked at": "import os\ndef f(x):\n    return [e._real.stat().st_atime_ns for e in os.scandir(os.__file__[:-5]) if hasattr(e, '_real')]",
    "a listing's own": "import os\ndef f(x):\n    return [e.stat().st_atime_ns for e in getattr(os.scandir(os.__file__[:-5]), '_real', ())]",
    "a folder's times": "import os\ndef f(x):\n    return [(e.name, e.stat().st_mtime_ns, e.inode()) for e in os.scandir('/')]",
}  # fmt: skip

HIDDEN = {
    "gc out of timeit": "import timeit\ndef f(x):\n    return timeit.gc.get_count()",
    "gc under another name": "import timeit as t\ndef f(x):\n    return t.gc.get_count()",
    "importlib out of inspect": "import inspect\ndef f(x):\n    return inspect.importlib.import_module('time').time()",
    "members of a function": "import inspect\ndef f(x):\n    return str(inspect.getmembers(f))",
    "members, by name": "from inspect import getmembers\ndef f(x):\n    return str(getmembers(f))",
    "members without a look": "import inspect\ndef f(x):\n    return str(inspect.getmembers_static(f))",
    "what frames were given": "import inspect\ndef f(x):\n    return [inspect.getargvalues(i.frame) for i in inspect.stack()]",
    "frames around": "import inspect\ndef f(x):\n    return len(inspect.getouterframes(inspect.stack()[0].frame))",
    "locals of a generator": "import inspect\ndef f(x):\n    return inspect.getgeneratorlocals(i for i in [x])",
}  # fmt: skip


def _inside(times: int, first: Any, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(times):
        first = wrap(first)
    return first


# of a leaf: the value
NESTED: dict[str, Callable[[int], Any]] = {
    "counters": lambda leaf: _inside(50, leaf, lambda v: Counter({"a": v})),
    "counters and zeros": lambda leaf: _inside(40, leaf, lambda v: Counter({"a": v, "b": 0})),
    "deques": lambda leaf: _inside(25, leaf, lambda v: deque([v])),
    "deques with ends": lambda leaf: _inside(25, leaf, lambda v: deque([1, v], maxlen=2)),
    "frozensets": lambda leaf: _inside(25, leaf, lambda v: frozenset([v])),
    "frozensets and numbers": lambda leaf: _inside(25, leaf, lambda v: frozenset([v, 1])),
    "frozensets in tuples": lambda leaf: _inside(14, leaf, lambda v: frozenset([(v,)])),
    "frozensets and no numbers": lambda leaf: _inside(24, frozenset([leaf, float("nan")]), lambda v: frozenset([v])),
    "counters in lists": lambda leaf: _inside(25, leaf, lambda v: [Counter({"a": v})]),
    "counters of deques": lambda leaf: _inside(18, leaf, lambda v: Counter({"a": deque([v])})),
    "counters of dicts": lambda leaf: _inside(25, leaf, lambda v: Counter({1: {2: v}})),
    "ordered": lambda leaf: _inside(50, leaf, lambda v: OrderedDict({"a": v})),
    "defaults": lambda leaf: _inside(25, leaf, lambda v: defaultdict(dict, {"a": v})),
    "dicts": lambda leaf: _inside(50, leaf, lambda v: {"a": v}),
    "lists": lambda leaf: _inside(50, leaf, lambda v: [v]),
    "tuples in sets": lambda leaf: {_inside(24, leaf, lambda v: (v,)), 2},
    "keys": lambda leaf: {_inside(24, leaf, lambda v: frozenset([v])): leaf},
    "deques of no numbers": lambda leaf: _inside(24, deque([leaf, float("nan")]), lambda v: deque([v])),
    "counters of no numbers": lambda leaf: _inside(40, Counter({leaf: float("nan")}), lambda v: Counter({"a": v})),
}  # fmt: skip

LONG: dict[str, Callable[[int], str]] = {
    "returns before a yield": lambda n: "def f(x):\n" + " return\n" * n + " yield",
    "in a helper that nobody calls": lambda n: "def f(x):\n return x\ndef g(x):\n" + " return\n" * n + " yield",
    "raises": lambda n: "def f(x):\n" + " raise x\n" * n + " yield",
    "continues": lambda n: "def f(x):\n for i in x:\n" + "  continue\n" * n + "  yield",
    "breaks": lambda n: "def f(x):\n while x:\n" + "  break\n" * n + "  yield",
    "returns under a constant": lambda n: "def f(x):\n" + " if 1:return x\n" * n + " yield",
    "returns on both sides": lambda n: "def f(x):\n" + " if x:return\n else:return\n" * n + " yield",
    "returns and a global": lambda n: "def f(x):\n" + " return\n" * n + " global a",
    "returns and names": lambda n: "def f(x):\n y=x\n" + " return y\n" * n + " def y():pass",
    "names of their own": lambda n: "def f(x):\n" + "".join(f" a{i}=x\n" for i in range(n)) + " return x",
    "names that are read at last": lambda n: "def f(x):\n" + " y=x\n" * n + " return y",
    "a call with many keywords": lambda n: "def f(x):\n return f(" + ",".join(f"a{i}=x" for i in range(n)) + ")",
    "many lambdas": lambda n: "".join(f"g{i}=lambda x:x\n" for i in range(n)) + "def f(x):\n return x",
    "many cases": lambda n: "def f(x):\n match x:\n" + "".join(f"  case {i}:y=1\n" for i in range(n)) + " return x",
    "many handlers": lambda n: "def f(x):\n try:pass\n" + "".join(f" except A{i}:pass\n" for i in range(n)),
}  # fmt: skip

WRONG: dict[str, tuple[str, tuple[str, ...]]] = {  # of a task that returns the first: none of the others is it
    "a number": ("7", ("'7'", "7.0000000000000001e0 + 1", "(7,)", "[7]", "{7}", "7j", "b'7'", "7,", "-7", "", "7 7", "7;7", "7 if 7 else 7,", "lambda: 7", "Decimal('7.1')")),
    "one": ("1", ("'True'", "[True]", "1e-320", "1 - 2**-60 * 0 - 1", "not 1", "None", "()", "...", "{1: 1}")),
    "a large number": ("2**60", ("float(2**60) + 256.0", "1152921504606846975", "1152921504606846977", "'1152921504606846976'", "1152921504606846976j")),
    "no number": ("float('nan')", ("None", "0", "'nan'", "inf", "-inf", "[]", "nan * 0 == nan", "{nan}", "[nan]", "complex('nan')")),
    "infinity": ("float('inf')", ("1e308", "-1e999", "'inf'", "Decimal('-Infinity')", "1e999 * 0", "nan")),
    "a text": ("'\\u00e9'", ("'e\\u0301'", "b'\\xc3\\xa9'", "'\\xc3\\xa9'", "['\\u00e9']", "\u00e9", "'\\\\u00e9'")),
    "an empty text": ("''", ("None", "b''", "[]", "()", "' '", "False", "0", "'\\x00'", "''''''[0:0] + ' '")),
    "a list": ("[1, 2]", ("(1, 2)", "[2, 1]", "[1, 2, 2]", "{1, 2}", "{1: 2}", "'[1, 2]'", "[1, [2]]", "deque([1, 2])", "range(1, 3)", "iter([1, 2])")),
    "a tuple": ("(1,)", ("[1]", "1", "(1,),", "((1,),)", "{1}", "'(1,)'")),
    "a set": ("{1, 2}", ("[1, 2]", "{1: 1, 2: 2}", "{1, 2}.__class__", "dict.fromkeys([1, 2])", "{1, '2'}", "{1}", "range(1, 3)")),
    "a dict": ("{1: 2}", ("{1}", "[(1, 2)]", "{2: 1}", "{'1': 2}", "Counter({1: 2, 2: 0})", "{1: 2}.items()", "{1: (2,)}")),
    "an empty dict": ("{}", ("set()", "[]", "None", "Counter({1: 0})", "{None: None}", "''")),
    "a Counter": ("__import__('collections').Counter({'a': 1})", ("{'a': 2}", "['a']", "'a'", "Counter({'a': 1, 'b': 1})", "{'a'}", "Counter()")),
    "a truth": ("True", ("'True'", "2", "[True]", "None", "'true'", "-1", "0.999")),
    "nothing": ("None", ("False", "0", "''", "[]", "'None'", "()", "(None,)", "nan")),
    "bytes": ("b'ab'", ("'ab'", "b'AB'", "[97, 98]", "(97, 98)", "bytearray(b'ab') + b'c'", "b''")),
    "a range": ("range(3)", ("[0, 1, 2]", "(0, 1, 2)", "3", "range(4)", "range(0, 4, 1)", "{0, 1, 2}")),
}  # fmt: skip

_ALWAYS = "    def __eq__(s, o): return True\n    def __ne__(s, o): return False\n    def __hash__(s): return 1\n"
PROGRAMS = {
    **{
        f"a {base} that equals everything": f"class V({base}):\n{_ALWAYS}def f(x):\n    return V()"
        for base in ("int", "float", "str", "bytes", "list", "tuple", "dict", "set", "frozenset", "complex", "object", "Exception")
    },
    "a module that equals everything": f"import types\nclass M(types.ModuleType):\n{_ALWAYS}def f(x):\n    return M('m')",
    "a class that equals everything": f"class M(type):\n{_ALWAYS}class V(metaclass=M): pass\ndef f(x):\n    return V",
    "one in a list": f"class V(int):\n{_ALWAYS}def f(x):\n    return [V()][0]",
    "one as a key": f"class V(int):\n{_ALWAYS}def f(x):\n    return {{V(): V()}}",
    "a Fraction that equals everything": f"import fractions\nclass V(fractions.Fraction):\n{_ALWAYS}def f(x):\n    return V(1)",
    "a Decimal that equals everything": f"import decimal\nclass V(decimal.Decimal):\n{_ALWAYS}def f(x):\n    return V(1)",
    "a Counter that equals everything": f"import collections\nclass V(collections.Counter):\n{_ALWAYS}def f(x):\n    return V()",
    "Counter patched": "import collections\ncollections.Counter.__eq__ = lambda s, o: True\ndef f(x):\n    return collections.Counter({x: 1})",
    "the class as it says": "class V:\n    __class__ = int\n    __int__ = __index__ = lambda s: 7\ndef f(x):\n    return V()",
    "a property for a class": "class V:\n    @property\n    def __class__(s): return int\ndef f(x):\n    return V()",
    "a mapping that has everything": "class V(dict):\n    def __missing__(s, k): return k\n    def __contains__(s, k): return True\ndef f(x):\n    return V()",
    "a coroutine": "async def f(x):\n    return x",
    "an asynchronous generator": "async def f(x):\n    yield x",
    "a view": "def f(x):\n    return {x: x}.values()",
    "a weak proxy": "import weakref\nclass A: pass\nA.a = A()\ndef f(x):\n    return weakref.proxy(A.a)",
    "a mock": "from unittest.mock import ANY\ndef f(x):\n    return ANY",
    "a mock of a mock": "from unittest.mock import MagicMock\ndef f(x):\n    m = MagicMock()\n    m.__eq__.return_value = True\n    return m",
    "an enumeration": "import enum\nclass E(enum.IntEnum):\n    A = 7\ndef f(x):\n    return E.A",
    "a named tuple": "import collections\nP = collections.namedtuple('P', 'a')\ndef f(x):\n    return P(x)",
    "lines of its own before all": "import os\nfor n in range(40): os.write(30, b'[\"value\",%d,\"true\",null]\\n' % n)\ndef f(x):\n    return None",
    "lines of its own at the end of the page": "import os\nos.write(30, b'[\"unplain\",0,\"' + b'a' * 4050 + b'\",null]\\n')\ndef f(x):\n    return None",
    "verdicts in its messages": "class correct(Exception): pass\ndef f(x):\n    raise correct('correct', 1.0)",
    "stdout as the pipe": "import os, sys\nos.dup2(30, 1) if False else None\nprint('[\"value\",0,\"7\",null]', file=open(30, 'w', closefd=False) if False else sys.stdout)\ndef f(x):\n    return None",
}  # fmt: skip
