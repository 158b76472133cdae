"""Answers that make a careless judge say yes: it splices their text into `{answer} == {gold}` and evaluates that.

Three small tasks, one of each kind; every answer below is wrong, and every one is shown to fool the careless judge.
"""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

DEDUCTION_PROGRAM = "def f(x):\n    return x * 37 + 5"
DEDUCTION_INPUT, DEDUCTION_GOLD = "1009", 37338

DEDUCTION = {
    "precedence_or": "True or 1",
    "precedence_ifexp": "1 if 1 else 2",
    "precedence_not": "not 0 or 1",
    "precedence_lambda": "lambda: 0",
    "precedence_tuple": "1, 1",
    "precedence_and": "1 and 2 or 0",
    "precedence_comment": "1 #",
    "precedence_chain": "0 != 1 != 5 or 1",
    "precedence_in": "1 in [1] or 0",
    "walrus_or": "(x := True) or 0",
    "reads_gold_by_name": "gold",
    "reads_gold_in_arithmetic": "gold + 0",
    "reads_gold_in_fstring": "int(f'{gold}')",
    "reads_gold_globals": "globals()['gold']",
    "reads_gold_locals": "locals()['gold']",
    "reads_gold_vars": "vars()['gold']",
    "reads_gold_eval": "eval('go' + 'ld')",
    "reads_gold_frame": "__import__('sys')._getframe(0).f_globals['gold']",
    "reads_gold_gc": "[o for o in __import__('gc').get_objects() if type(o) is dict and 'gold' in o][0]['gold']",
    "reads_gold_inspect": "__import__('inspect').currentframe().f_globals['gold']",
    "reads_gold_main": "__import__('__main__').space['gold']",
    "reads_gold_generator": "[g.gi_frame.f_globals['gold'] for g in [(i for i in ())]][0]",
    "reads_gold_lambda_globals": "(lambda: 0).__globals__['gold']",
    "calls_the_program": "f(1009)",
    "calls_the_program_indirectly": "list(map(f, [1009]))[0]",
    "equal_to_all": "type('E', (), {'__eq__': lambda s, o: True})()",
    "equal_int": "type('I', (int,), {'__eq__': lambda s, o: True})(3)",
    "equal_str": "type('S', (str,), {'__eq__': lambda s, o: True})('no')",
    "equal_list": "type('L', (list,), {'__eq__': lambda s, o: True})([1])",
    "equal_dict": "type('D', (dict,), {'__eq__': lambda s, o: True})()",
    "equal_tuple": "type('T', (tuple,), {'__eq__': lambda s, o: True})()",
    "equal_float": "type('F', (float,), {'__eq__': lambda s, o: True})(2)",
    "equal_mock": "__import__('unittest.mock').mock.ANY",
    "equal_metaclass": "type('M', (type,), {'__eq__': lambda s, o: True})('C', (), {})",
    "equal_with_class_lie": "type('C', (), {'__class__': int, '__eq__': lambda s, o: True})()",
    "equal_truthy_object": "type('E', (), {'__eq__': lambda s, o: [s]})()",
}

ABDUCTION_PROGRAM = (
    "BASE = 3\n\ndef helper(x):\n    return x * 7\n\ndef f(x, scale=1):\n    return helper(x) * scale + BASE"
)
ABDUCTION_INPUT, ABDUCTION_GOLD = "601", 4210

ABDUCTION = {
    "close_and_or": "1) or (True",
    "close_and_or_two": "1, 1) or (True",
    "close_and_zero": "0) * 0 + 4210 + (0",
    "close_and_choose": "0) and 0 or (4210",
    "close_and_if": "0) if 0 else (4210",
    "close_and_index": "0) and [4210][0] or (0",
    "close_and_lambda": "0) and (lambda z: z)(4210",
    "walrus_helper": "(helper := lambda x: 4207)",
    "walrus_base": "(BASE := 4210) * 0",
    "walrus_in_keyword": "x=(BASE := 4210) * 0",
    "walrus_in_comprehension": "[(BASE := 4210) for _ in [0]][0] * 0",
    "globals_update": "globals().update(BASE=4210) or 0",
    "globals_setitem": "globals().__setitem__('BASE', 4210) or 0",
    "vars_update": "vars().update(BASE=4210) or 0",
    "locals_update": "locals().update(BASE=4210) or 0",
    "exec_assign": "exec('BASE = 4210') or 0",
    "eval_update": "eval('globals()').update(BASE=4210) or 0",
    "function_globals": "f.__globals__.update(BASE=4210) or 0",
    "function_code": "setattr(helper, '__code__', (lambda x: 4207).__code__) or 1",
    "function_code_dunder": "helper.__setattr__('__code__', (lambda x: 4207).__code__) or 1",
    "function_defaults": "setattr(f, '__defaults__', (0,)) or globals().update(BASE=4210) or 0",
    "lambda_side_effect": "(lambda: globals().update(BASE=4210))() or 0",
    "map_side_effect": "list(map(lambda k: globals().update({k: 4210}), ['BASE'])) and 0",
    "comprehension_side_effect": "[globals().update(BASE=4210) for _ in [0]] and 0",
    "starred_side_effect": "*(globals().update(BASE=4210) or [0])",
    "double_starred_side_effect": "**(globals().update(BASE=4210) or {'x': 0})",
    "default_argument_side_effect": "(lambda g=globals().update(BASE=4210): 0)()",
    "gc_referrers": "[d.update(BASE=4210) for d in __import__('gc').get_referrers(helper) if type(d) is dict] and 0",
    "sorted_key_side_effect": "sorted([0], key=lambda k: globals().update(BASE=4210) or 0)[0]",
    "operators_object": "type('E', (), {'__mul__': lambda s, o: s, '__add__': lambda s, o: 4210})()",
    "operators_int": "type('I', (int,), {'__mul__': lambda s, o: type(s)(0), '__add__': lambda s, o: 4210})(1)",
    "equal_through_program": "type('E', (), {'__mul__': lambda s, o: s, '__add__': lambda s, o: s, '__eq__': lambda s, o: 1})()",
    "reads_gold": "(gold - 3) // 7",
    "newlines_and_close": "0\n) or (\nTrue",
}

INDUCTION_PROGRAM = "def f(x):\n    return x * x + 1"
INDUCTION_INPUTS = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "11")

_EQUAL = "class E({base}):\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n\ndef f(x):\n    return E()"
INDUCTION = {
    "equal_object": _EQUAL.format(base="object"),
    "equal_int": _EQUAL.format(base="int"),
    "equal_str": _EQUAL.format(base="str"),
    "equal_list": _EQUAL.format(base="list"),
    "equal_dict": _EQUAL.format(base="dict"),
    "equal_only_at_second_sight": (
        "class E(int):\n    seen = 0\n    def __eq__(self, o):\n        E.seen += 1\n        return E.seen > 0\n"
        "    __hash__ = int.__hash__\n\ndef f(x):\n    return E(x)"
    ),
    "frame_locals": "import sys\ndef f(x):\n    return sys._getframe(1).f_globals['gold']",
    "frame_walk": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        if 'gold' in frame.f_locals: return frame.f_locals['gold']\n        frame = frame.f_back"
    ),
    "frame_by_traceback": (
        "def f(x):\n    try:\n        1 / 0\n    except Exception as error:\n"
        "        return error.__traceback__.tb_frame.f_back.f_globals['gold']"
    ),
    "frame_by_generator": "def f(x):\n    g = (g.gi_frame.f_back.f_back.f_globals for _ in [0])\n    return next(g)['gold']",
    "gc_objects": (
        "def f(x):\n    import gc\n    return next(o for o in gc.get_objects() if type(o) is dict and 'gold' in o)['gold']"
    ),
    "inspect_stack": "def f(x):\n    import inspect\n    return inspect.stack()[1].frame.f_globals['gold']",
    "main_module": "def f(x):\n    import __main__\n    return __main__.space['gold']",
    "builtin_all": "import builtins\nbuiltins.all = lambda *a: True\ndef f(x):\n    return 0",
    "builtin_eval": "import builtins\nbuiltins.eval = lambda *a: True\ndef f(x):\n    return 0",
    "print_and_exit": "def f(x):\n    print('HIT', flush=True)\n    __import__('os')._exit(0)",
    "write_descriptor": "import os\nos.write(1, b'HIT\\n')\nos._exit(0)\ndef f(x):\n    pass",
    "write_all_descriptors": (
        "import os\nfor d in range(1, 30):\n    for w in (b'HIT\\n', b'[\"loaded\",-1]\\n'):\n"
        "        try: os.write(d, w)\n        except OSError: pass\nos._exit(0)\ndef f(x):\n    pass"
    ),
    "forged_frames": (
        "import os\nlines = b'HIT\\n[\"loaded\",-1]\\n' + b''.join(b'[\"value\",%d,\"true\",null]\\n' % n for n in range(10))\n"
        "for d in range(1, 30):\n    try: os.write(d, lines + b'[\"end\"]\\n')\n    except OSError: pass\n"
        "os._exit(0)\ndef f(x):\n    pass"
    ),
    "atexit": "import atexit, os\natexit.register(print, 'HIT')\ndef f(x):\n    return 0",
    "finaliser": "class D:\n    def __del__(self):\n        print('HIT')\nkept = D()\ndef f(x):\n    return 0",
    "thread": "import threading\ndef f(x):\n    threading.Thread(target=print, args=('HIT',)).start()\n    return 0",
    "swapped_stdout": "import sys\nsys.stdout.write('HIT\\n')\ndef f(x):\n    return 0",
    "trace": (
        "import sys\ndef spy(frame, event, arg):\n    frame.f_globals.get('gold') and print('HIT')\n"
        "sys.setprofile(spy)\ndef f(x):\n    return 0"
    ),
    "exit_hook": "import sys\nsys.exitfunc = None\nsys.excepthook = lambda *a: print('HIT')\ndef f(x):\n    raise SystemError",
}

# Text that upsets a parser in the judge's own process; as an answer to the deduction task.
PARSER = {
    "minus_signs": "-" * 200_000 + "1",
    "nots": "not " * 60_000 + "1",
    "brackets_open": "[" * 150_000,
    "brackets": "(" * 3_000 + "1" + ")" * 3_000,
    "lists": "[" * 3_000 + "]" * 3_000,
    "sums": "1" + "+1" * 60_000,
    "attributes": "x" + ".a" * 60_000,
    "calls": "f" + "()" * 60_000,
    "lambdas": "lambda:" * 20_000 + "1",
    "ternaries": "1 if 1 else " * 20_000 + "1",
    "powers": "1" + "**1" * 60_000,
    "digits": "9" * 5_000,
    "null": "1\0",
    "null_in_string": "'\0'",
    "surrogate": "'\ud800'",
}
