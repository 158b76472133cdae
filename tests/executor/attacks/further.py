"""More programs that do harm, each under the words for what it tries: descriptors, files, the pipe, time, memory, state.

HITS return "HIT" where they get what they must not have. LINES write into the pipe that their outcome goes through.
ENDLESS need more time or memory than there is. STATE changes something that a later program would trip over. `@PLANTED@`
and `@FOLDER@` are outside the jail.
"""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations


def _body(*lines: str) -> str:
    return "import os, sys\ndef f():\n" + "".join(f"    {line}\n" for line in lines) + "    return 'HIT'\n"


def _any_descriptor(line: str) -> str:
    """The line for each descriptor `d` that might be open; a hit if one works."""
    return (
        "import os, sys, fcntl, stat\ndef f():\n    for d in [*range(3, 33), 200, 1000]:\n        try:\n"
        f"            if {line}: return 'HIT'\n        except (OSError, ValueError): pass\n    return 'none'\n"
    )


HITS = {
    # --- descriptors
    "read back what its pipe holds": _any_descriptor("os.read(d, 1) is not None"),
    "find a socket to the trainer": _any_descriptor("stat.S_ISSOCK(os.fstat(d).st_mode)"),
    "find the file that its request came in": _any_descriptor("stat.S_ISREG(os.fstat(d).st_mode)"),
    "find a folder left open": _any_descriptor("stat.S_ISDIR(os.fstat(d).st_mode)"),
    "find two pipes": _any_descriptor("stat.S_ISFIFO(os.fstat(d).st_mode) and stat.S_ISFIFO(os.fstat(d + 1).st_mode)"),
    "own its pipe's signals": _any_descriptor("fcntl.fcntl(d, fcntl.F_SETOWN, os.getppid()) == 0"),
    "make its pipe larger": _any_descriptor("fcntl.fcntl(d, 1031, 1 << 20)"),
    "be told when a folder is read": _body("import fcntl", "fcntl.fcntl(os.open(os.path.dirname(os.__file__), 0), fcntl.F_NOTIFY, 1)"),
    "a lease on the library": _body("import fcntl", "fcntl.fcntl(os.open(os.__file__, 0), fcntl.F_SETLEASE, fcntl.F_RDLCK)"),
    "a lock that other programs wait for": _body("import fcntl", "fcntl.lockf(os.open(os.__file__, 0), fcntl.LOCK_SH)"),
    "a lock by the older call": _body("import fcntl", "fcntl.flock(os.open(os.__file__, 0), fcntl.LOCK_EX)"),
    "reopen its pipe for reading": _body("open('/proc/self/fd/3', 'rb')"),
    "read the standard input of the trainer": _body("assert os.read(0, 1)"),
    "speak to the trainer's terminal": _body("os.open('/dev/tty', os.O_RDWR)"),
    "a terminal of its own": _body("import pty", "pty.openpty()"),
    # --- files
    "leave its root by dots": _body("open(os.path.dirname(os.__file__) + '/../' * 20 + 'etc/passwd').read()"),
    "leave its root by proc": _body("os.listdir('/proc/self/root/etc')"),
    "leave its root by a task's folder": _body("os.listdir('/proc/self/task/1/cwd/etc')"),
    "list the root": _body("assert set(os.listdir('/')) & {'etc', 'home', 'root', 'var'}"),
    "read the trainer's planted file": _body("open('@PLANTED@').read()"),
    "read it by an only-path descriptor": _body("d = os.open('@FOLDER@', os.O_PATH)", "os.open('planted', os.O_RDONLY, dir_fd=d)"),
    "map the planted file": _body("import mmap", "mmap.mmap(os.open('@PLANTED@', os.O_RDONLY), 0, prot=mmap.PROT_READ)"),
    "read memory of the machine": _body("open('/dev/mem', 'rb').read(1)"),
    "read the kernel's messages": _body("open('/dev/kmsg').readline()"),
    "read what devices there are": _body("os.listdir('/sys/class')"),
    "read the machine's load": _body("os.getloadavg()"),
    "read who is logged in": _body("open('/var/run/utmp', 'rb').read(1)"),
    "read the passwords of others": _body("open('/etc/shadow').read()"),
    "read keys of the user": _body("open(os.path.expanduser('~root') + '/.ssh/id_rsa').read()"),
    "read the environment of process one": _body("open('/proc/1/environ').read()"),
    "write its own memory by a file": _body("open('/proc/self/mem', 'r+b').read(1)"),
    "be killed last": _body("open('/proc/self/oom_score_adj', 'w').write('-1000')"),
    "a cached module that others load": _body("os.makedirs(os.path.dirname(os.__file__) + '/__pycache__', exist_ok=True)", "open(os.path.dirname(os.__file__) + '/__pycache__/x.pyc', 'wb').write(b'x')"),
    "change the library": _body("open(os.__file__, 'r+').read()"),
    "append to the library": _body("open(os.__file__, 'a').close()"),
    "cut the library": _body("os.truncate(os.__file__, 0)"),
    "another time on the library": _body("os.utime(os.__file__)"),
    "an attribute on the library": _body("os.setxattr(os.__file__, 'user.x', b'1')"),
    "a database on disk": _body("import sqlite3", "sqlite3.connect('@FOLDER@/base').execute('create table a(b)')"),
    "attach a database": _body("import sqlite3", "sqlite3.connect(':memory:').execute(\"attach '@FOLDER@/other' as o\")", "open('@FOLDER@/other')"),
    "a shelf": _body("import shelve", "shelve.open('@FOLDER@/shelf')['a'] = 1"),
    "a log file": _body("import logging", "logging.FileHandler('@FOLDER@/log')"),
    "a spool file that grows to disk": _body("import tempfile", "t = tempfile.SpooledTemporaryFile(1)", "t.write(b'xxx')"),
    "an archive unpacked": _body("import zipfile, io", "b = io.BytesIO()", "zipfile.ZipFile(b, 'w').writestr('x', 'y')", "zipfile.ZipFile(b).extractall('@FOLDER@')"),
    "a compiled file": _body("import py_compile", "py_compile.compile(os.__file__, '@FOLDER@/x.pyc', doraise=True)"),
    # --- processes
    "ask the zygote's group": _body("os.getpgid(os.getppid() or 1)"),
    "ask the zygote's session": _body("os.getsid(os.getppid() or 1)"),
    "the zygote's priority": _body("os.setpriority(os.PRIO_PROCESS, os.getppid() or 1, 19)"),
    "stop the zygote": _body("import signal", "os.kill(os.getppid() or 1, signal.SIGSTOP)"),
    "stop itself": _body("import signal", "signal.raise_signal(signal.SIGSTOP)"),
    "kill itself by a thread's number": _body("import signal, threading", "signal.pthread_kill(threading.get_ident(), 0)"),
    "a process by another library": _body("import ctypes", "assert ctypes.CDLL(None).system(b'true') == 0"),
    "a process by popen of C": _body("import ctypes", "assert ctypes.CDLL(None).popen(b'true', b'r')"),
    "a pool of processes": _body("from concurrent.futures import ProcessPoolExecutor", "ProcessPoolExecutor(1).submit(int).result(2)"),
    "a manager's server": _body("import multiprocessing", "multiprocessing.Manager().list()"),
    "a shared queue": _body("import multiprocessing", "multiprocessing.Queue().put(1)"),
    "a semaphore with a name": _body("import multiprocessing", "multiprocessing.Semaphore()"),
    "a web page": _body("import urllib.request", "urllib.request.urlopen('http://127.0.0.1:1/', timeout=1)"),
    "a name looked up": _body("import socket", "assert socket.getaddrinfo('localhost', 80)[0][0] and socket.socket()"),
    "a server of its own": _body("import http.server", "http.server.HTTPServer(('127.0.0.1', 0), None)"),
    "libraries of the machine": _body("import ctypes", "ctypes.CDLL('/usr/lib/x86_64-linux-gnu/libnss_files.so.2x')"),
}  # fmt: skip


def _to_pipe(*data: str, then: str = "os._exit(0)") -> str:
    """Writes the data into every descriptor that takes it, from inside the call."""
    lines = "".join(f"            os.write(d, {one})\n" for one in data)
    return f"import os\ndef f(x):\n    for d in range(3, 32):\n        try:\n{lines}        except OSError: pass\n    {then}\n"


_FINE = 'b\'["value",0,"7",null]\\n\''
_END = "b'[\"end\"]\\n'"
# Whatever they come to, it is an outcome of this program alone, and no trouble for anybody.
LINES = {
    "an end before its value": _to_pipe(_END),
    "a value and an end of its own": _to_pipe(_FINE, _END),
    "two values for one call": _to_pipe(_FINE, "b'[\"value\",0,\"8\",null]\\n'", _END, then="return 9"),
    "a value for a call of another number": _to_pipe("b'[\"value\",77,\"7\",null]\\n'", then="return 9"),
    "a value for a negative number": _to_pipe("b'[\"value\",-1,\"7\",null]\\n'", then="return 9"),
    "a value that is no text": _to_pipe("b'[\"value\",0,7,null]\\n'", _END),
    "a value of another shape": _to_pipe("b'[\"value\",0]\\n'", _END),
    "a value that no codec wrote": _to_pipe("b'[\"value\",0,\"{\\\"c\\\":[]}\",null]\\n'", _END),
    "a value that names an unknown tag": _to_pipe("b'[\"value\",0,\"{\\\"pickle\\\":1}\",null]\\n'", _END),
    "a time of day without its parts": _to_pipe("b'[\"value\",0,\"{\\\"time\\\":[1,2,3]}\",null]\\n'", _END),
    "a number of a million digits": _to_pipe("b'[\"value\",0,\"' + b'9' * 10**5 + b'\",null]\\n'", _END),
    "a number in the place of a word": _to_pipe("b'[1,0,\"7\",null]\\n'", _END),
    "an unknown word": _to_pipe("b'[\"owner\",0,\"7\"]\\n'", _END),
    "a program that says it is another": _to_pipe("b'[\"program\",-1,\"def f(x): return 7\",false,false]\\n'", then="return 9"),
    "unfit after it has run": _to_pipe("b'[\"unfit\",-1,\"syntax error\",\"\"]\\n'", then="return 9"),
    "loaded twice": _to_pipe("b'[\"loaded\",-1]\\n' * 2", then="return 9"),
    "bytes that are no text": _to_pipe("b'\\xff\\xfe\\n' * 99", then="return 9"),
    "zeros": _to_pipe("bytes(65536)", then="return 9"),
    "half a line": _to_pipe("b'[\"value\",0'"),
    "a line without an end": _to_pipe("b'[' * 60000"),
    "nested lists by the thousand": _to_pipe("b'[' * 30000 + b']' * 30000 + b'\\n'", _END),
    "a hundred thousand empty lines": _to_pipe("b'\\n' * 60000", _END, then="return 9"),
    "more lines than calls": _to_pipe(f"{_FINE} * 3000", _END, then="return 9"),
    "a text that opens a quote and never closes it": _to_pipe("b'[\"value\",0,\"' + b'a' * 60000 + b'\\n'", _END),
    "a quote behind every backslash": _to_pipe("b'[\"value\",0,\"' + b'\\\\\\\\\\\"' * 20000 + b'\\n'", _END),
    "words of a terminal in its message": "def f(x):\n    raise ValueError('\\x1b[2J\\x07' * 99 + chr(0xdc80))\n",
    "a name of an exception with blanks and lines": "def f(x):\n    raise type('A\\nB ' * 40, (Exception,), {})('x')\n",
    "an exception without a class name": "class M(type):\n    __name__ = 7\nclass E(Exception, metaclass=M): pass\ndef f(x):\n    raise E\n",
    "an exception that raises when shown": "class E(Exception):\n    def __str__(self):\n        raise SystemExit\ndef f(x):\n    raise E\n",
    "an exception of a million characters": "def f(x):\n    raise ValueError('x' * 10**6)\n",
    "a group of exceptions without end": "def f(x):\n    e = ValueError(1)\n    for _ in range(900):\n        e = ExceptionGroup('g', [e])\n    raise e\n",
    "its pipe closed": "import os\ndef f(x):\n    os.closerange(0, 64)\n    return 7\n",
    "its pipe replaced": "import os\ndef f(x):\n    for d in range(3, 32):\n        try:\n            os.close(d)\n            os.open(os.__file__, 0)\n        except OSError: pass\n    return 7\n",
    "its pipe made not to wait, then filled": "import os\ndef f(x):\n    for d in range(3, 32):\n        try:\n            os.set_blocking(d, False)\n            while True: os.write(d, b'x' * 4096)\n        except OSError: pass\n    return 7\n",
}  # fmt: skip

# Ended at the limit of time or memory, by an exception or a signal; never a value, and never for long.
ENDLESS = {
    "fill its pipe and wait": "import os\ndef f():\n    for d in range(3, 32):\n        try:\n            while True: os.write(d, b'x' * 4096)\n        except OSError: pass\n",
    "close its pipe and run on": "import os\ndef f():\n    os.closerange(3, 64)\n    while True: pass\n",
    "wait for a key": "def f():\n    while True: input()\n",
    "a number of numbers": "def f():\n    return 9**9**9\n",
    "a text as wide as it likes": "def f():\n    return len(format(1, '0%dd' % 2**34))\n",
    "a decimal of any precision": "import decimal\ndef f():\n    decimal.getcontext().prec = 10**9\n    return str(decimal.Decimal(1) / 3)\n",
    "unpack a bomb": "import zlib\ndef f():\n    c = zlib.compressobj(9)\n    b = b''.join(c.compress(bytes(2**20)) for _ in range(64)) + c.flush()\n    return [len(zlib.decompress(b) * 64) for _ in range(10**9)]\n",
    "permutations of everything": "import itertools\ndef f():\n    return sum(1 for _ in itertools.permutations(range(30)))\n",
    "the largest element of nothing that ends": "import itertools\ndef f():\n    return max(itertools.cycle([1]))\n",
    "a list of itself, extended": "def f():\n    x = [1]\n    x.extend(x for x in iter(int, 1))\n",
    "a dictionary of one hash": "class K:\n    def __hash__(self): return 1\ndef f():\n    return len({K(): i for i in range(10**7)})\n",
    "a sort that never agrees": "class K:\n    def __lt__(self, o):\n        while True: pass\ndef f():\n    return sorted([K(), K()])\n",
    "a search that backs up": "import re\ndef f():\n    return re.fullmatch(r'(\\w+\\s?)*', 'aaaa ' * 30 + '!')\n",
    "a wait on a lock of its own": "import threading\ndef f():\n    threading.Event().wait()\n",
    "signals of its own answered by more": "import signal\ndef f():\n    signal.signal(signal.SIGXCPU, lambda *a: None)\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True: pass\n",
    "a trace in every line": "import sys\ndef f():\n    sys.settrace(lambda *a: sys.settrace)\n    while True: pass\n",
    "comprehension of all memory": "def f():\n    return [bytes(2**20) for _ in iter(int, 1)]\n",
    "one mapping of all memory": "import mmap\ndef f():\n    return [mmap.mmap(-1, 2**28) for _ in range(10**6)]\n",
    "memory of C": "import ctypes\ndef f():\n    c = ctypes.CDLL(None)\n    c.malloc.restype = ctypes.c_void_p\n    while c.malloc(ctypes.c_size_t(2**24)): pass\n    raise MemoryError\n",
    "a stack of C": "import json\ndef f():\n    x = []\n    for _ in range(10**5): x = [x]\n    return repr(x)\n",
}  # fmt: skip

# name: (what is changed, a later program, what that gives when all is well)
STATE = {
    "the way out": ("import os\nos._exit = os.abort = None\ndef f(): pass\n", "def f():\n    return 1\n", 1),
    "writing itself": ("import os\nos.write = os.read = lambda *a: 1\ndef f(): pass\n", "def f():\n    return 2\n", 2),
    "a small number": ("import ctypes\ndef f():\n    ctypes.memset(id(77) + 24, 5, 1)\n", "def f():\n    return 77\n", 77),
    "the empty tuple": ("import ctypes\ndef f():\n    ctypes.memset(id(()) + 16, 1, 1)\n", "def f():\n    return len(())\n", 0),
    "the codec's own types": ("import collections\ncollections.deque.__len__ = None\ndef f(): pass\n", "import collections\ndef f():\n    return len(collections.deque([1]))\n", 1),
    "an encoder": ("import json.encoder\njson.encoder.JSONEncoder.encode = lambda s, o: '7'\ndef f(): pass\n", "def f():\n    return [8]\n", [8]),
    "the collector of garbage": ("import gc\ngc.disable()\ngc.callbacks.append(lambda *a: 1 / 0)\ndef f(): pass\n", "import gc\ndef f():\n    return gc.isenabled() and not gc.callbacks\n", True),
    "an exit handler": ("import atexit\natexit.register(print, 'x')\ndef f(): pass\n", "import atexit\ndef f():\n    return atexit._ncallbacks()\n", 0),
    "the hook of exceptions": ("import sys\nsys.excepthook = sys.unraisablehook = None\ndef f(): pass\n", "import sys\ndef f():\n    return sys.excepthook is sys.__excepthook__\n", True),
    "the environment": ("import os\nos.environ['PATH'] = 'x'\nos.putenv('LANG', 'x')\ndef f(): pass\n", "import os\ndef f():\n    return dict(os.environ)\n", {}),
    "the locale": ("import locale\ntry: locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')\nexcept locale.Error: pass\ndef f(): pass\n", "def f():\n    return f'{1.5:n}'\n", "1.5"),
    "the handler of a signal": ("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndef f(): pass\n", "import signal\ndef f():\n    return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n", True),
    "the switch between threads": ("import sys\nsys.setswitchinterval(1e6)\ndef f(): pass\n", "import sys\ndef f():\n    return sys.getswitchinterval() < 1\n", True),
    "the cache of patterns": ("import re\nre._cache.clear()\nre.compile = lambda *a: 1 / 0\ndef f(): pass\n", "import re\ndef f():\n    return re.sub('a', 'b', 'aa')\n", "bb"),
    "an abstract class": ("import numbers\nnumbers.Number.register(str)\ndef f(): pass\n", "import numbers\ndef f():\n    return isinstance('', numbers.Number)\n", False),
    "fractions": ("from fractions import Fraction\nFraction.__add__ = lambda a, b: 0\ndef f(): pass\n", "from fractions import Fraction\ndef f():\n    return str(Fraction(1, 3) + Fraction(1, 6))\n", "1/2"),
    "time zones": ("import datetime\ndatetime.date.today = classmethod(lambda c: c(1, 1, 1))\ndef f(): pass\n", "import datetime\ndef f():\n    return datetime.date.today().year > 1\n", True),
    "a module of its own name": ("import sys, types\nsys.modules['program'] = sys.modules['wave'] = types.ModuleType('x')\ndef f(): pass\n", "import wave\ndef f():\n    return hasattr(wave, 'open')\n", True),
}  # fmt: skip
