"""Programs that do harm where nothing holds them; each is first run in a plain interpreter and seen to do it.

HITS return "HIT" once they have done what they must not be able to do. HANGS never end. DEATHS take the interpreter
with them. POISONS change something that the next program then trips over: they come with a victim and its result.
"""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations


def _body(*lines: str) -> str:
    return "def f():\n" + "".join(f"    {line}\n" for line in lines) + "    return 'HIT'\n"


def _call(number: int, *arguments: str) -> str:
    """A bare system call that must not succeed."""
    given = ", ".join((f"ctypes.c_long({number})", *arguments))
    return _body("import ctypes", f"assert ctypes.CDLL(None, use_errno=True).syscall({given}) >= 0")


HITS = {
    "read_passwd": _body("open('/etc/passwd').read()"),
    "read_hosts_by_descriptor": _body("import os", "os.read(os.open('/etc/hosts', 0), 10)"),
    "read_own_environment": _body("open('/proc/self/environ').read()"),
    "read_own_maps": _body("open('/proc/self/maps').read()"),
    "read_other_process": _body("open('/proc/1/cmdline').read()"),
    "read_process_list": _body("import os", "assert any(n.isdigit() for n in os.listdir('/proc'))"),
    "read_mounts": _body("open('/proc/mounts').read()"),
    "list_etc": _body("import os", "assert os.listdir('/etc')"),
    "list_home": _body("import os", "os.listdir(os.path.expanduser('/root') if os.getuid() == 0 else '/home')"),
    "read_random_device": _body("open('/dev/urandom', 'rb').read(4)"),
    "read_environment": _body("import os", "assert os.environ.get('SECRET') == 'token'"),
    "see_our_sources": _body("import os", "assert os.listdir('@ROOT@/azr_jax')"),
    "import_our_sources": _body("import sys", "sys.path.append('@ROOT@')", "import azr_jax"),
    "write_tmp": _body("open('@FOLDER@/written', 'w').write('x')"),
    "write_dev_shm": _body("open('/dev/shm/azr_jax_attack', 'w').write('x')"),
    "write_by_descriptor": _body("import os", "os.write(os.open('@FOLDER@/written', os.O_WRONLY | os.O_CREAT), b'x')"),
    "make_folder": _body("import os", "os.makedirs('@FOLDER@/made', exist_ok=True)"),
    "make_link": _body("import os, tempfile", "os.symlink('/etc/passwd', tempfile.mktemp())"),
    "make_fifo": _body("import os, tempfile", "os.mkfifo(tempfile.mktemp())"),
    "temporary_file": _body("import tempfile", "tempfile.TemporaryFile().write(b'x')"),
    "change_mode": _body("import os, tempfile", "os.chmod('@PLANTED@', 0o700)"),
    "change_time": _body("import os", "os.utime('@PLANTED@')"),
    "remove_file": _body("import os", "os.remove('@PLANTED@')"),
    "rename_file": _body("import os", "os.rename('@PLANTED@', '@PLANTED@' + 'x')"),
    "mapped_memory_file": _body("import os", "os.write(os.memfd_create('x'), b'x')"),
    "shared_memory": _body(
        "from multiprocessing import shared_memory", "shared_memory.SharedMemory(create=True, size=9).unlink()"
    ),
    "socket_inet": _body("import socket", "socket.socket(socket.AF_INET, socket.SOCK_STREAM)"),
    "socket_unix": _body("import socket", "socket.socket(socket.AF_UNIX)"),
    "socket_pair": _body("import socket", "socket.socketpair()"),
    "socket_listen": _body("import socket", "socket.create_server(('127.0.0.1', 0))"),
    "socket_datagram": _body(
        "import socket", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"
    ),
    "socket_netlink": _body("import socket", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    "subprocess": _body("import subprocess", "subprocess.run(['/bin/true'], check=True)"),
    "system": _body("import os", "assert os.system('true') == 0"),
    "popen": _body("import os", "assert os.popen('echo a').read()"),
    "spawn": _body("import os", "assert os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)[1] == 0"),
    "fork": _body("import os", "pid = os.fork()", "if pid == 0: os._exit(0)", "os.waitpid(pid, 0)"),
    "fork_bomb_start": _body("import os", "for _ in range(3):", "    if os.fork() == 0: os._exit(0)"),
    "daemonise": _body("import os", "if os.fork() == 0:", "    os.setsid()", "    os._exit(0)"),
    "leave_session": _body("import os", "if os.fork() == 0:", "    os.setpgid(0, 0)", "    os._exit(0)"),
    "process_pool": _body(
        "import multiprocessing as m", "p = m.get_context('fork').Process(target=print)", "p.start()", "p.join()"
    ),
    "exec_shell": "import os\ndef f():\n    os.execv('/bin/echo', ['echo', 'HIT'])\n",
    "thread": _body("import threading", "t = threading.Thread(target=print)", "t.start()", "t.join()"),
    "raw_thread": _body("import _thread, time", "_thread.start_new_thread(print, ())"),
    "thread_pool": _body(
        "from concurrent.futures import ThreadPoolExecutor", "ThreadPoolExecutor(1).submit(len, '').result()"
    ),
    "signal_parent": _body("import os", "os.kill(os.getppid(), 0)"),
    "signal_init": _body("import os", "os.kill(1, 0)"),
    "signal_all": _body("import os", "os.kill(-1, 0)"),
    "signal_group": _body("import os", "os.killpg(0, 0)"),
    "alarm": _body("import signal", "signal.setitimer(signal.ITIMER_REAL, 1000)"),
    "raise_limits": _body("import resource as r", "r.setrlimit(r.RLIMIT_NOFILE, r.getrlimit(r.RLIMIT_NOFILE))"),
    "nice": _body("import os", "os.nice(0)"),
    "affinity": _body("import os", "os.sched_setaffinity(0, os.sched_getaffinity(0))"),
    "many_descriptors": _body("kept = [open(__import__('os').__file__) for _ in range(100)]"),
    "pipe": _body("import os", "os.pipe()"),
    "ptrace": _call(101, "0"),
    "unshare": _call(272, "0x20000000 * 0"),
    "personality": _call(135, "ctypes.c_ulong(0xffffffff)"),
    "keyctl": _call(250, "0", "ctypes.c_long(-3)", "1"),
    "shmget": _call(29, "0", "4096", "0o1600"),
    "semget": _call(64, "0", "1", "0o1600"),
    "msgget": _call(68, "0", "0o1600"),
    "epoll": _call(291, "0"),
    "inotify": _call(253),
    "timer_descriptor": _call(283, "0", "0"),
    "event_descriptor": _call(284, "0"),
    "signal_descriptor": _call(282, "ctypes.c_long(-1)", "b'\\0' * 8", "8"),
    "prctl_name": _call(157, "15", "b'kworker'"),
    "process_descriptor": _call(434, "ctypes.CDLL(None).getpid()", "0"),
    "umask": _call(95, "0o22"),
    "chdir": _body("import os", "os.chdir('/tmp')"),
    "memory_bytes": _body("x = bytearray(800 * 2**20)", "del x"),
    "memory_list": _body("x = [0] * (100 * 2**20)", "del x"),
    "memory_string": _body("x = 'x' * (800 * 2**20)", "del x"),
    "big_output": "def f():\n    return 'HIT' * 10**6\n",
    "deep_output": "def f():\n    x = 'HIT'\n    for _ in range(500):\n        x = [x]\n    return x\n",
    "cyclic_output": "def f():\n    x = ['HIT']\n    x.append(x)\n    return x\n",
    "billion_laughs": "def f():\n    x = ['HIT']\n    for _ in range(18):\n        x = [x, x]\n    return x\n",
    "repr_lies": "class R:\n    def __repr__(self):\n        return \"'HIT'\"\ndef f():\n    return R()\n",
    "class_lies": "class R(str):\n    __class__ = str\ndef f():\n    return R('HIT')\n",
    "reduce_runs": "class R:\n    def __reduce__(self):\n        return (str, ('HIT',))\ndef f():\n    return R()\n",
    "generator_output": "def f():\n    return (c for c in ['HIT'])\n",
    "exits_with_a_value": "def f():\n    raise SystemExit('HIT')\n",
}
# The plain interpreter has no socket to a parent; what is attacked there is the standing promise "nothing inherited".
HITS["inherited_socket"] = (
    "import os, stat\ndef f():\n    found = []\n    for d in range(64):\n        try: found.append(stat.S_ISSOCK(os.fstat(d).st_mode))\n"
    "        except OSError: pass\n    return 'HIT' if any(found) else 'none'\n"
)

HANGS = {
    "loop": "def f():\n    while True: pass\n",
    "loop_in_module": "while True: pass\ndef f(): pass\n",
    "swallow_everything": "def f():\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass\n",
    "ignore_signals": (
        "import signal\ndef f():\n    for s in range(1, 64):\n        try: signal.signal(s, signal.SIG_IGN)\n"
        "        except (OSError, ValueError): pass\n    while True: pass\n"
    ),
    "block_signals": "import signal\ndef f():\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\n    while True: pass\n",
    "sleep": "import time\ndef f():\n    time.sleep(1e6)\n",
    "c_loop_sum": "def f():\n    return sum(range(10**13))\n",
    "c_loop_power": "def f():\n    return len(bin(7 ** (10**9)))\n",
    "c_loop_factorial": "import math\ndef f():\n    return math.factorial(10**8) > 1\n",
    "c_loop_any": "import itertools\ndef f():\n    return any(itertools.repeat(0))\n",
    "c_loop_deque": "import collections, itertools\ndef f():\n    collections.deque(itertools.count(), maxlen=0)\n",
    "c_loop_in": "import itertools\ndef f():\n    return -1 in itertools.count()\n",
    "c_loop_pow_mod": "def f():\n    return pow(3, 10**120000, 10**20000 + 1)\n",
    "regex": "import re\ndef f():\n    return re.match('(a+)+$', 'a' * 60 + 'b')\n",
    "regex_nested": "import re\ndef f():\n    return re.search('(x+x+)+y', 'x' * 60)\n",
    "deadlock": "import threading\ndef f():\n    lock = threading.Lock()\n    lock.acquire()\n    lock.acquire()\n",
    "print_flood": "def f():\n    while True: print('x' * 100000)\n",
    "stderr_flood": "import sys\ndef f():\n    while True: sys.stderr.write('x' * 100000)\n",
    "message_loop": "class E(Exception):\n    def __str__(self):\n        while True: pass\ndef f():\n    raise E\n",
    "hash_loop": "class E:\n    def __hash__(self):\n        while True: pass\ndef f():\n    return {E()}\n",
    "finaliser_loop": "class D:\n    def __del__(self):\n        while True: pass\ndef f():\n    D()\n",
    "import_hook_loop": (
        "import sys\nclass H:\n    def find_spec(self, *a):\n        while True: pass\ndef f():\n    sys.meta_path.insert(0, H())\n"
        "    import wave\n"
    ),
    "generator_loop": "def f():\n    def g():\n        while True: yield\n    return sum(1 for _ in g())\n",
    "hash_collisions": "def f():\n    return len({i * (2**61 - 1): i for i in range(300000)})\n",
    "poll": "import select\ndef f():\n    select.select([], [], [], 1e6)\n",
}

DEATHS = {
    "segfault": "import ctypes\ndef f():\n    ctypes.string_at(0)\n",
    "segfault_write": "import ctypes\ndef f():\n    ctypes.memset(8, 1, 64)\n",
    "bad_function": "import ctypes\ndef f():\n    ctypes.CFUNCTYPE(None)(64)()\n",
    "faulthandler": "import faulthandler\ndef f():\n    faulthandler._sigsegv()\n",
    "abort": "import os\ndef f():\n    os.abort()\n",
    "exit_now": "import os\ndef f():\n    os._exit(0)\n",
    "exit_now_in_module": "import os\nos._exit(0)\ndef f(): pass\n",
    "kill_self": "import os\ndef f():\n    os.kill(os.getpid(), 9)\n    os._exit(3)\n",
    "corrupt_none": "import ctypes\ndef f():\n    ctypes.memset(id(None), 0, 16)\n    return [None] * 9\n",
    "bad_bytecode": (
        "def g(): pass\ndef f():\n    g.__code__ = g.__code__.replace(co_code=b'd\\xff' * 20, co_stacksize=1)\n    g()\n    import os\n    os.abort()\n"
    ),
    "close_descriptors": "import os\ndef f():\n    os.closerange(0, 256)\n    return 1\n",
    "c_stack": (
        "import sys\nsys.setrecursionlimit(10**7)\nclass A:\n    def __getattr__(self, n):\n        return getattr(self, n + '')\n"
        "def f():\n    import ctypes\n    return A().x or ctypes.string_at(0)\n"
    ),
    "raise_system_exit": "import sys\ndef f():\n    sys.exit(0)\n",
    "raise_interrupt": "def f():\n    raise KeyboardInterrupt\n",
}

# name: (poison, victim program, what the victim gives when all is well)
_LEN = ("def f():\n    return len([1, 2, 3])\n", 3)
POISONS = {
    "len": ("import builtins\nbuiltins.len = lambda x: 42\ndef f(): pass\n", *_LEN),
    "sum": ("import builtins\nbuiltins.sum = lambda *a: 42\ndef f(): pass\n", "def f():\n    return sum([1, 2])\n", 3),
    "sorted": (
        "import builtins\nbuiltins.sorted = lambda *a: []\ndef f(): pass\n",
        "def f():\n    return sorted([2, 1])\n",
        [1, 2],
    ),
    "range": (
        "import builtins\nbuiltins.range = lambda *a: ()\ndef f(): pass\n",
        "def f():\n    return list(range(2))\n",
        [0, 1],
    ),
    "import": (
        "import builtins\nbuiltins.__import__ = None\ndef f(): pass\n",
        "def f():\n    import math\n    return math.floor(1.5)\n",
        1,
    ),
    "build_class": (
        "import builtins\nbuiltins.__build_class__ = None\ndef f(): pass\n",
        "def f():\n    class A: x = 1\n    return A.x\n",
        1,
    ),
    "math": (
        "import math\nmath.sqrt = lambda x: 42\ndef f(): pass\n",
        "import math\ndef f():\n    return math.sqrt(9)\n",
        3.0,
    ),
    "math_replaced": (
        "import sys\nsys.modules['math'] = sys\ndef f(): pass\n",
        "import math\ndef f():\n    return math.floor(2.5)\n",
        2,
    ),
    "json": (
        "import json\njson.dumps = lambda *a, **k: 'forged'\ndef f(): pass\n",
        "import json\ndef f():\n    return json.dumps([1])\n",
        "[1]",
    ),
    "counter": (
        "import collections\ncollections.Counter.__missing__ = lambda s, k: 9\ndef f(): pass\n",
        "from collections import Counter\ndef f():\n    return Counter()['x']\n",
        0,
    ),
    "decimal": (
        "import decimal\ndecimal.getcontext().prec = 2\ndef f(): pass\n",
        "from decimal import Decimal\ndef f():\n    return str(Decimal(1) / 3)\n",
        "0." + "3" * 28,
    ),
    "recursion_limit": (
        "import sys\nsys.setrecursionlimit(60)\ndef f(): pass\n",
        "def f(n=300):\n    return n and 1 + f(n - 1)\n",
        300,
    ),
    "digit_limit": (
        "import sys\nsys.set_int_max_str_digits(640)\ndef f(): pass\n",
        "def f():\n    return len(str(10 ** 1000))\n",
        1001,
    ),
    "path": (
        "import sys\nsys.path.clear()\nsys.path_importer_cache.clear()\ndef f(): pass\n",
        "def f():\n    import wave\n    return wave.__name__\n",
        "wave",
    ),
    "meta_path": (
        "import sys\nsys.meta_path.clear()\ndef f(): pass\n",
        "def f():\n    import colorsys\n    return colorsys.__name__\n",
        "colorsys",
    ),
    "warnings": (
        "import warnings\nwarnings.simplefilter('error')\ndef f(): pass\n",
        "def f():\n    import warnings\n    warnings.warn('x')\n    return 1\n",
        1,
    ),
    "stdout": (
        "import sys\nsys.stdout = sys.__stdout__ = None\nimport builtins\nbuiltins.print = 3\ndef f(): pass\n",
        "def f():\n    print('x')\n    return 1\n",
        1,
    ),
    "abc_cache": (
        "import collections.abc as c\nc.Sequence.register(int)\ndef f(): pass\n",
        "import collections.abc as c\ndef f():\n    return isinstance(3, c.Sequence)\n",
        False,
    ),
    "random_state": (
        "import random\nrandom.Random.random = lambda s: 2.0\nrandom.random = lambda: 2.0\ndef f(): pass\n",
        "import random\ndef f():\n    return random.random() < 1\n",
        True,
    ),
    "string_constants": (
        "import string\nstring.digits = ''\ndef f(): pass\n",
        "import string\ndef f():\n    return string.digits\n",
        "0123456789",
    ),
}
