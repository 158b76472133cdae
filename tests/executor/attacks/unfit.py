"""Proposals that must not become tasks: results that differ from run to run, and ways round the list of imports."""

# ruff: noqa: E501, RUF001 - an attack is one line of text, whatever its length

from __future__ import annotations


def _returns(expression: str, *imports: str) -> str:
    return "".join(f"import {name}\n" for name in imports) + f"def f():\n    return {expression}\n"


# Each gives different results in different processes, or (CLOCK) at different times.
NONDETERMINISTIC = {
    "set_order": _returns("list({'apple', 'pear', 'plum', 'fig', 'date'})"),
    "set_order_text": _returns("str({'apple', 'pear', 'plum', 'fig', 'date'})"),
    "set_order_joined": _returns("''.join(set('reproducible'))"),
    "set_order_pop": _returns("set('abcdefghijklmnop').pop()"),
    "set_order_next": _returns("next(iter(frozenset('abcdefghijklmnop')))"),
    "set_order_max": _returns("max(set('abcdefghijklmnop'), key=lambda c: 0)"),
    "set_order_comprehension": _returns("[c for c in {c + 'x' for c in 'abcdefgh'}]"),
    "set_order_enumerate": _returns("dict(enumerate(set('abcdefgh')))"),
    "set_order_keys_view": _returns("list(dict.fromkeys('abcdefgh').keys() | {'z'})"),
    "set_order_sum_of_floats": _returns("[hash(c) % 7 for c in 'abcdefgh']"),
    "hash_text": _returns("hash('text')"),
    "hash_bytes": _returns("hash(b'text') % 1000"),
    "hash_in_tuple": _returns("hash(('a', 'b'))"),
    "identity": _returns("id(object())"),
    "identity_sorted": _returns("id([]) // 4096 % 65536"),
    "address_in_repr": _returns("repr(object())"),
    "address_of_function": _returns("str(f)"),
    "address_of_lambda": _returns("f'{(lambda: 0)}'"),
    "hash_of_object": _returns("hash(object())"),
    "random_float": _returns("random.random()", "random"),
    "random_choice": _returns("random.choice(range(10**6))", "random"),
    "random_shuffle": "import random\ndef f():\n    x = list(range(20))\n    random.shuffle(x)\n    return x\n",
    "random_own_state": _returns("random.Random().getrandbits(40)", "random"),
    "random_system": _returns("random.SystemRandom().getrandbits(40)", "random"),
    "urandom": _returns("os.urandom(8)", "os"),
    "secrets": _returns("secrets.token_hex(8)", "secrets"),
    "uuid": _returns("str(uuid.uuid4())", "uuid"),
    "time": _returns("time.time()", "time"),
    "time_ns": _returns("time.time_ns()", "time"),
    "perf_counter": _returns("time.perf_counter()", "time"),
    "monotonic": _returns("time.monotonic_ns()", "time"),
    "now": _returns("str(datetime.datetime.now())", "datetime"),
    "temporary_name": _returns("tempfile.mktemp()", "tempfile"),
    "thread_identity": _returns("threading.get_ident()", "threading"),
    "cpu_time": _returns("time.process_time_ns()", "time"),
    "counter_of_calls_in_file": "def f():\n    with open('@FOLDER@/count', 'a+') as c:\n        c.write('x')\n        c.seek(0)\n        return len(c.read())\n",
}

# Differ from day to day or year to year; a second run a moment later cannot show it.
CLOCK = {
    "year": _returns("datetime.date.today().year", "datetime"),
    "day": _returns("str(datetime.date.today())", "datetime"),
    "month_name": _returns("time.strftime('%B %Y')", "time"),
    "days_since_epoch": _returns("int(time.time()) // 86400", "time"),
    "ctime": _returns("time.ctime()[-4:]", "time"),
    "local_year": _returns("time.localtime()[0]", "time"),
    "utc_hour": _returns("time.gmtime().tm_hour", "time"),
}

# Each reaches the clock past a filter that looks for `import time` and its like at the start of lines.
ROUND_THE_LIST = {
    "import_builtin": _returns("__import__('time').time()"),
    "import_builtin_joined": _returns("__import__('ti' + 'me').time()"),
    "importlib": _returns("importlib.import_module('time').time()", "importlib"),
    "import_second": "import math, time\ndef f():\n    return time.time()\n",
    "import_as": "import math as m, time as math\ndef f():\n    return math.time()\n",
    "import_in_exec": "exec('imp' + 'ort time')\ndef f():\n    return time.time()\n",
    "import_in_eval": _returns("eval('__imp' + 'ort__(\"time\")').time()"),
    "import_unicode": "import ｔｉｍｅ\ndef f():\n    return time.time()\n",
    "import_continued": "import \\\n  time\ndef f():\n    return time.time()\n",
    "import_after_semicolon": "x = 1; import time\ndef f():\n    return time.time()\n",
    "import_on_if_line": "if 1: import time\ndef f():\n    return time.time()\n",
    "import_star": "from time import *\ndef f():\n    return time()\n",
    "import_with_tab": "import\ttime\ndef f():\n    return time.time()\n",
    "builtins_subscript": "def f():\n    b = __builtins__\n    b = b if type(b) is dict else vars(b)\n    return b['__imp' + 'ort__']('time').time()\n",
    "modules_table": _returns("sys.modules['ti' + 'me'].time()", "sys"),
    "modules_getattr": _returns("getattr(sys, 'mod' + 'ules')['time'].time()", "sys"),
    "through_other_module": _returns("random._urandom(4)", "random"),
    "through_module_attribute": _returns("statistics.random.random()", "statistics"),
    "subclasses": (
        "def f():\n    for c in ().__class__.__base__.__subclasses__():\n        if c.__name__ == '_ModuleLock':\n"
        "            return c.acquire.__globals__['sys'].modules['time'].time()\n"
    ),
    "subclasses_getattr": (
        "def f():\n    o = getattr(type(()), '__ba' + 'se__')\n    for c in getattr(o, '__sub' + 'classes__')():\n"
        "        if c.__name__ == '_ModuleLock':\n"
        "            return getattr(c.acquire, '__glo' + 'bals__')['sys'].modules['time'].time()\n"
    ),
    "function_globals": _returns("collections.namedtuple.__globals__['_sys'].modules['time'].time()", "collections"),
    "private_alias": _returns("collections._sys.modules['time'].time()", "collections"),
    "format_string": _returns("'{0.__class__} {1}'.format(3, id(f))"),
    "frame": _returns("sys._getframe().f_builtins['__import__']('time').time()", "sys"),
    "code_from_bytes": "exec(bytes.fromhex('696d706f72742074696d65').decode())\ndef f():\n    return time.time()\n",
    "loader": "import sys\ndef f():\n    return sys.__loader__.load_module('time').time()\n",
    "decorator": "@lambda g: lambda: __import__('time').time()\ndef f():\n    pass\n",
    "default_argument": "def f(t=__import__('time').time()):\n    return t\n",
    "class_body": "class A:\n    from time import time\ndef f():\n    return A.time()\n",
    "sys_path_importer": "import sys\ndef f():\n    return sys.meta_path[0].find_spec('time').loader.load_module('time').time()\n",
}
