"""What a forked child does: take one request, put on the jail, read and run it, write the outcomes, vanish.

Outcomes are JSON lines in a pipe that the child writes and only the trusted parent reads. What a line says about a
program can be forged by that program, and gains it nothing: it is the program's own outcome, the gold is elsewhere,
and the parent decodes and compares. Lines written before the program first runs cannot be changed by it.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import select
import socket
import struct
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from azr_jax.executor import addresses, arguments, binding, clock, hygiene, imports, proposal_check, written
from azr_jax.executor.values import Refused, as_json, decode, encode

if TYPE_CHECKING:
    from azr_jax.executor.jail import ChildJail

# Number, time for this run and the whole limit in milliseconds, the two below: before a request, and to the zygote.
HEADER = struct.Struct("=QIIB")
REAL_TIME, AHEAD = 1, 2  # clocks go in this child; the next child is to be forked while this one runs
REQUEST_BYTES = 180_000  # one message of the socket
LARGEST_REQUEST = 64 * 2**20  # what is over one message travels as a file in memory
_ONE_DESCRIPTOR = socket.CMSG_SPACE(4)
PIPE_BYTES = 1 << 19
NOT_ITS_FAULT = 75  # a status: the machine had no room, so the request is run again; not believed after BEGUN
OUTCOMES = 30  # the descriptor of a child's pipe
BEGUN = b'["begun",-1]'  # the first line, written before anything of a program is looked at
END = b'["end"]'  # the last line of a child that came to its end
_exit, _write, _pause = os._exit, os.write, select.poll().poll  # a program may put something else in their place
_WITHOUT_MEMORY_MS = 10  # until a line is tried again that the kernel had no memory for
_KEPT_BYTES = 2_048  # of a socket's room, by a message beside twice its bytes
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MODULE = imports.PROGRAM
_READ = json.JSONDecoder().raw_decode  # less of the heap is touched, hence copied, than by `json.loads`


class Full(Exception):
    """No room for another line: the child ends here, and the calls it leaves out are asked of another one."""


class Pipe:
    """Writes outcome lines; never more than the pipe holds, because nobody reads before the child has ended.

    A pipe holds pages: what is over whole pages goes behind the last write if it fits into the rest of that page, and
    begins a new page if not.
    """

    def __init__(self, descriptor: int, room: int) -> None:
        self._descriptor = descriptor
        self._pages = room // _PAGE - 1  # the last one is for the end line
        self._rest = 0  # of the page written last

    def begin(self) -> None:
        """Raises where the kernel has no memory, as nothing after it does."""
        self._claim(len(BEGUN) + 1)
        _write(self._descriptor, BEGUN + b"\n")

    def send(self, *line: object) -> None:
        data = as_json(line).encode() + b"\n"
        self._claim(len(data))
        put(self._descriptor, data)

    def _claim(self, size: int) -> None:
        whole, over = divmod(size, _PAGE)
        behind = over <= self._rest
        pages = whole if behind else whole + 1
        if pages > self._pages:
            raise Full
        self._pages -= pages
        self._rest = _PAGE - over if not behind else 0 if whole else self._rest - over


class Sockets(Pipe):
    """A pair of sockets in its place, where the user's share of pipes is used up (zygote.py, _channel).

    The kernel counts what it keeps of a message: at the most this much, so that no write has to wait.
    """

    def __init__(self, descriptor: int, room: int) -> None:
        super().__init__(descriptor, room)
        self._left = room - _KEPT_BYTES  # the last message is for the end line

    def _claim(self, size: int) -> None:
        kept = 2 * size + _KEPT_BYTES
        if kept > self._left:
            raise Full
        self._left -= kept


def put(descriptor: int, data: bytes) -> None:
    """Writes to a pipe that has room; where the kernel has none, again and again while there is time."""
    while True:
        try:
            _write(descriptor, data)
            return
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            _pause(_WITHOUT_MEMORY_MS)


Body = Callable[["ChildJail", socket.socket, Pipe, dict[str, Any]], NoReturn]


def main(jail: ChildJail, requests: socket.socket, pipe: Pipe, names: dict[str, Any]) -> NoReturn:
    """Never returns, whatever happens: no exit handler, finaliser or buffer of the program gets a turn."""
    try:
        message, more, _, _ = requests.recvmsg(REQUEST_BYTES + 1024, _ONE_DESCRIPTOR)  # bytes yet, read in the jail
        requests.close()
        # The whole limit, and not that of this run: a program finds no difference between the two.
        milliseconds, goes = HEADER.unpack_from(message)[2], bool(message[HEADER.size - 1] & REAL_TIME)
        jail.enter(milliseconds / 1000, clocks=goes)
        request, _ = _READ((_whole(more) if more else message[HEADER.size :]).decode())
        del message, more
        pipe.begin()
    except BaseException:
        _exit(NOT_ITS_FAULT)
    try:
        if not goes:
            clock.stop()
        answer(pipe, request, names)
        put(OUTCOMES, END + b"\n")
    except BaseException:  # fail closed: without an end line the parent calls it a crash
        _exit(1)
    _exit(0)


def answer(pipe: Pipe, request: dict[str, Any], names: dict[str, Any]) -> None:
    """Writes all lines but the end mark."""
    try:
        _MODES[request["mode"]](pipe, request, names)
    except hygiene.Unfit as unfit:
        pipe.send("unfit", -1, unfit.reason, unfit.detail)
    except Refused as refused:
        pipe.send("unfit", -1, "value refused", str(refused)[:100])
    except Full:
        pass


def _whole(ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """A request that was too large for a message, out of the file whose descriptor came instead."""
    ((_, _, packed),) = ancillary
    descriptor = int.from_bytes(packed[:4], sys.byteorder)
    parts: list[bytes] = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


def empty(jail: ChildJail, requests: socket.socket, *_: object) -> NoReturn:
    """A child that takes its message and ends: the floor that benchmarks measure the rest against."""
    requests.recvmsg(REQUEST_BYTES, _ONE_DESCRIPTOR)
    _exit(0)


def warm_up(names: dict[str, Any]) -> None:
    """Goes once through all a child does, so that no child pays for first times (the parser's tables are 1.5 ms)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    pipe = Pipe(nowhere, PIPE_BYTES)
    program = (
        "import math\ndef f(x, *y, k=(1, 'a')):\n    return [{str(z): z * 1.5} for z in range(x)] if x else None\n"
    )
    calls = [{"text": "3, [1, -2.5], k={'a': str(True)}", "inert": True}, {"text": "f, lambda x: x"}]
    for _ in range(3):
        _program(pipe, {"program": program, "guard": [], "numbers": [0, 1], "calls": calls}, names)
        _check(pipe, {"program": program, "banned": list(hygiene.BANNED), "inputs": ["3", "x=3"]}, names)
        _expression(pipe, {"text": "Counter({'a': 2})", "form": "literal"}, names)
        _READ(as_json({"a": ["b\n", 1, None]}))
    del sys.modules[_MODULE]
    os.close(nowhere)


# ---------------------------------------------------------------------------------------------- the modes
def _program(pipe: Pipe, request: dict[str, Any], names: dict[str, Any]) -> None:
    """A program and its calls. An `answer` is somebody's program: checked and renamed first."""
    text = request["program"]
    if request.get("answer"):
        for line in proposal_check.lines_of(text, (), (), names):
            pipe.send(*line)
            text = line[2] or text
    imports.ban(request["guard"])
    calls = [_prepare(call, names) for call in request["calls"]]
    code = hygiene.compiled(text)
    space = _space(names)
    addresses.forget()  # what we asked for ourselves
    try:
        exec(code, space)
    except BaseException as error:  # SystemExit and the like are the program's failure too
        pipe.send("broken", -1, *_name_of(error))
        return
    function = space.get("f")
    if not callable(function):
        raise hygiene.Unfit("no function f")
    pipe.send("loaded", -1)
    for number, build in zip(request["numbers"], calls):
        _call(pipe, number, function, build, space, keep=request.get("given", False))


def _check(pipe: Pipe, request: dict[str, Any], names: dict[str, Any]) -> None:
    """A proposal, of which nothing is run."""
    for line in proposal_check.lines_of(request["program"], request["inputs"], request["banned"], names):
        pipe.send(*line)


def _expression(pipe: Pipe, request: dict[str, Any], names: dict[str, Any]) -> None:
    """A deduction answer that is no literal: its value, with no task in sight."""
    tree = arguments.parse_value(request["text"])
    if not written.is_written_out(request["text"], tree, request["form"]):
        raise hygiene.Unfit("not written out")
    code = compile(tree, "answer", "eval", dont_inherit=True)
    space = _space(names) | names
    _call(pipe, 0, lambda: eval(code, space), lambda _: ((), {}), {})


def _arguments(pipe: Pipe, request: dict[str, Any], names: dict[str, Any]) -> None:
    """An abduction answer outside the inert part of the language: its values, with no program in sight."""
    build = _builder(arguments.parse_call(request["text"]))
    space = _space(names) | names
    _call(pipe, 0, lambda: build(space), lambda _: ((), {}), {})


def _same(pipe: Pipe, request: dict[str, Any], names: dict[str, Any]) -> None:
    """Whether two argument lists are the same but for layout. Nothing is run, so this child may know both."""
    same = arguments.same_text(arguments.parse_call(request["text"]), request["other"])
    pipe.send("value", 0, encode(same), None)


_MODES: dict[str, Callable[[Pipe, dict[str, Any], dict[str, Any]], None]] = {
    "program": _program,
    "check": _check,
    "expression": _expression,
    "arguments": _arguments,
    "same": _same,
}


# ---------------------------------------------------------------------------------------------- calls
Build = Callable[[dict[str, Any]], arguments.Given]


def _prepare(call: dict[str, Any], names: dict[str, Any]) -> Build:
    """How to make the arguments of one call, decided before the program has run."""
    if "values" in call:
        positional, named = decode(call["values"])
        return lambda space: (positional, named)
    if "form" not in call:
        code = arguments.plain_call(call["text"])
        if code is not None:
            return _built(code)
    tree = arguments.parse_call(call["text"])
    if not call.get("inert"):
        return _builder(tree)  # the proposer's own input, for one, may use the program's names
    if "form" in call and not arguments.is_written_out(call["text"], tree, call["form"]):
        raise hygiene.Unfit("not written out")
    if not arguments.is_inert(tree):
        raise hygiene.Unfit("not inert")
    build, apart = _builder(tree), arguments.inert_space(names)
    return lambda space: build(apart)


def _builder(tree: ast.Call) -> Build:
    return _built(compile(ast.fix_missing_locations(ast.Expression(tree)), "input", "eval", dont_inherit=True))


def _built(code: types.CodeType) -> Build:
    def build(space: dict[str, Any]) -> arguments.Given:
        return eval(code, arguments.capturing(space))

    return build


def _call(
    pipe: Pipe, number: int, function: Callable[..., object], build: Build, space: dict[str, Any], *, keep: bool = False
) -> None:
    """One call, its outcome as one line: the value and, to `keep`, what was given, an exception, or a refusal."""
    addresses.forget()
    try:
        positional, named = build(space)
    except BaseException as error:
        pipe.send("bad input", number, *_name_of(error))
        return
    given = _given(function, positional, named) if keep else None  # before the call may change them
    try:
        result = function(*positional, **named)
    except BaseException as error:
        pipe.send("raised", number, *_name_of(error), given)
        return
    if sys.getrecursionlimit() < 2_000:
        sys.setrecursionlimit(2_000)  # the program may have lowered it
    try:
        pipe.send("value", number, encode(result), given)
    except Refused as refused:
        pipe.send("unplain", number, str(refused)[:100], given)


def _given(function: Callable[..., object], positional: tuple[Any, ...], named: dict[str, Any]) -> str | None:
    """The parameters' values, None where they are not plain; how many arguments came without a name; the names."""
    given, defaults = binding.bound(function, positional, named) or ({"*": positional, "**": named}, {})
    shape = (len(positional), tuple(sorted(named)))
    texts = (_encoded_or_none((values, *shape)) for values in (given | defaults, given, None))
    return next(filter(None, texts), None)


def _encoded_or_none(value: object) -> str | None:
    try:
        return encode(value)
    except Refused:
        return None


def _name_of(error: BaseException) -> tuple[str, str, bool]:
    """The class's name, the message, and whether it is an ordinary exception (not exit, not interrupt)."""
    name = type.__dict__["__name__"].__get__(type(error))
    try:
        message = str(error)[:200]
    except BaseException:  # a message is only for people
        message = ""
    return name[:100], message, isinstance(error, Exception)


def _space(names: dict[str, Any]) -> dict[str, Any]:
    """The globals of a fresh module; a real module, because dataclasses and typing look it up by name."""
    module = types.ModuleType(_MODULE)
    sys.modules[_MODULE] = module
    return vars(module)
