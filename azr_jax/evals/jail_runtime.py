"""What surrounds a program that an evaluation judges: text that runs with it in the jail.

The program has a namespace of its own, so that no name of either hides one of the other. Nothing here knows an expected
value. A program can change all of this for itself, and gains what it gains by returning something else: its own
outcome. The evaluation imports `_settle`, `_digest` and `_words` alone, for values that a benchmark states.
"""

from typing import Any

DIGEST = "digest of a long value"
_LONG = 400  # characters of a value, about, from which its digest goes through the pipe in its place
_LONG_WITH_FLOATS = 14_000  # values with floats are compared with a tolerance, so they travel whole while they can


def _size(value, most):
    """About how many characters the value takes, and whether it holds floats; stops counting beyond `most`."""
    total, floats, waiting = 0, False, [value]
    while waiting and total <= most:
        one = waiting.pop()
        total += 4
        if isinstance(one, (str, bytes)):
            total += len(one)
        elif isinstance(one, int):
            total += one.bit_length() // 3
        elif isinstance(one, float):
            total, floats = total + 30, True
        elif isinstance(one, dict):
            waiting.extend(one.keys())
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting.extend(one)
    return total, floats


def _digest(value):
    """Equal for values that are equal by `==`; None for what is not plain data."""
    import hashlib

    def texts(one, kind):
        """Texts equal texts alone, so a list of nothing else needs no walk: some are huge."""
        return kind in (list, tuple) and set(map(type, one)) == {str}

    def walk(one: Any, out):
        one = _base(one)
        kind: Any = type(one)
        if kind in (int, bool, float) and one == one and abs(one) != float("inf") and one == int(one):
            out(b"i%x" % int(one) if one >= 0 else b"i-%x" % -int(one))
        elif one is None or kind in (float, complex, str, bytes) or texts(one, kind):
            out(repr(one).encode("utf-8", "surrogatepass"))
        elif kind in (list, tuple):
            out(b"[" if kind is list else b"(")
            for member in one:
                walk(member, out)
                out(b",")
            out(b"]")
        elif kind in (set, frozenset):
            out(b"{" + b",".join(sorted(whole(member) for member in one)) + b"}")
        elif kind is dict:
            pairs = sorted(whole(key) + b":" + whole(member) for key, member in one.items())
            out(b"<" + b",".join(pairs) + b">")
        else:
            raise TypeError(kind.__name__)

    def whole(one):
        mark = hashlib.sha256()
        walk(one, mark.update)
        return mark.hexdigest().encode()

    try:
        return whole(value).decode()
    except (TypeError, RecursionError):
        return None


_CODEC = ("collections", "datetime", "decimal", "fractions")  # where its types beyond the plain ones come from
_PLAIN: Any = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)


def _base(one: Any) -> Any:
    """A member of a subclass as what it is below: an IntEnum is an int, a Counter a dict; else the value itself."""
    if type(one) in _PLAIN:
        return one
    base = next((each for each in _PLAIN if isinstance(one, each)), None)
    if base is None:
        return one
    if base is dict:
        return dict(dict.items(one))
    return base.__str__(one) if base is str else base(one)


def _plain(value: Any, depth=0) -> Any:
    """The value, with what is of a subclass as what it is below; other types of the codec stay as they are."""
    kind: Any = type(value)
    if depth > 50 or (kind.__module__ in _CODEC and kind.__name__ != "defaultdict"):
        return value
    value = _base(value)
    kind = type(value)
    if kind is dict:
        return {_plain(key, depth + 1): _plain(member, depth + 1) for key, member in value.items()}
    if kind in (list, tuple, set, frozenset):
        return kind([_plain(member, depth + 1) for member in value])
    return value


def _settle(function, not_none=False, whole=False):
    """The function, with long results as digests unless `whole`; with `not_none`, a result that is no truth value as:
    is there one.
    """

    def f(*arguments, **named):
        value = function(*arguments, **named)
        if not_none and not isinstance(value, bool):
            return value is not None
        size, floats = _size(value, _LONG_WITH_FLOATS)
        if whole or size <= (_LONG_WITH_FLOATS if floats else _LONG):
            return _plain(value)
        mark = _digest(value)
        return value if mark is None else (DIGEST, mark)

    return f


def _run(code, name):
    """The namespace of a program that has run: its own, in a module, which dataclasses and typing look for."""
    import sys
    import types

    module = types.ModuleType(name)
    sys.modules[name] = module
    names = vars(module)
    names["exit"] = names["quit"] = sys.exit  # an interpreter without `site` lacks them
    exec(code, names)
    return names


def _program(source):
    return _run(_compiled(source), "solution")


def _compiled(source):
    """Imports from the future stand first, whatever a benchmark put before the program."""
    try:
        return compile(source, "program", "exec", dont_inherit=True)
    except SyntaxError as error:
        if "from __future__ imports must occur" not in str(error):
            raise
    lines = source.split("\n")
    future = [line for line in lines if line.startswith("from __future__ import ")]
    rest = [line for line in lines if not line.startswith("from __future__ import ")]
    return compile("\n".join(future + rest), "program", "exec", dont_inherit=True)


def _method(names, name):
    """The function, or the method of a fresh Solution, of that name; tuples come back as the lists JSON has."""
    import copy

    def call(*arguments):
        there = names.get("Solution")
        function = getattr(there(), name) if there is not None and hasattr(there, name) else names[name]
        value = function(*copy.deepcopy(arguments))
        return list(value) if isinstance(value, tuple) else value

    return _settle(call)


def _record(check, function):
    """`f(-1)`: how often a test calls the function it is given; `f(n)`: with what the n-th time."""
    import copy
    import random

    random.seed(0)  # some tests draw their inputs: the same ones here and in _replay
    calls, running = [], []

    def recorder(*arguments, **named):
        if running:
            return function(*arguments, **named)
        calls.append(copy.deepcopy((arguments, named)))
        running.append(1)
        try:
            return function(*arguments, **named)
        finally:
            running.pop()

    check(recorder)
    return lambda number: len(calls) if number < 0 else calls[number]


def _replay(check):
    """`f(calls)`: whether the test passes when the n-th call is answered with the n-th result (returned, value)."""
    import random

    def f(calls):
        random.seed(0)
        waiting = list(reversed(calls))

        def answered(*arguments, **named):
            (given, given_named), returned, value = waiting.pop()
            if (arguments, named) != (given, given_named):
                raise LookupError("the test asks something else than before")
            if not returned:
                raise RuntimeError("the program raised an exception here")
            return value

        try:
            check(answered)
        except AssertionError:
            return False
        except BaseException as error:
            return type(error).__name__
        return True

    return f


def _words(text):
    """The lines of what a script printed, without blanks around them. In a line of numbers each has one form, since 1.0
    is 1 to a contest's judge.
    """
    from decimal import Decimal, InvalidOperation

    def number(word):
        sign, digits, exponent = Decimal(word).as_tuple()
        if not isinstance(exponent, int):
            raise InvalidOperation(word)
        digits = "".join(map(str, digits)).lstrip("0")
        bare = digits.rstrip("0")
        return f"{'-' if sign else ''}{bare}e{exponent + len(digits) - len(bare)}" if bare else "0"

    def line_of(line):
        try:
            return " ".join([number(word) for word in line.split()])
        except InvalidOperation:
            return line.strip()

    return [line_of(line) for line in text.strip().split("\n")]


def _run_script(source):
    """`f(text)`: what the script prints when the text is its standard input; a long one as its digest.

    A script starts anew for each input. It has streams of its own, also under their numbers; its threads run at once,
    one after the other, and what it registered for its end runs at its end.
    """
    import atexit
    import builtins
    import contextlib
    import io
    import os
    import sys
    import threading

    code = _compiled(source)
    real_open, real_read, real_write = builtins.open, os.read, os.write

    class Stream(io.TextIOWrapper):
        number = 0

        def fileno(self):
            return self.number

        def close(self):
            self.flush()

        __del__ = close

    def f(text):
        heard = Stream(io.BytesIO(text.encode()), encoding="utf-8")
        printed = io.BytesIO()
        spoken = Stream(printed, encoding="utf-8", write_through=True)
        spoken.number = 1

        def open_(file, *more, **named):
            stream = {0: heard, "/dev/stdin": heard, 1: spoken, "/dev/stdout": spoken}.get(file)
            if stream is None:
                return real_open(file, *more, **named)
            return stream.buffer if "b" in str(more[:1] or named.get("mode", "")) else stream

        def end(code=None):
            raise SystemExit(code)

        before = sys.stdin, sys.stdout
        sys.stdin, sys.stdout = heard, spoken
        builtins.open = io.open = open_
        os.read = lambda number, most: heard.buffer.read(most) if number == 0 else real_read(number, most)
        os.write = lambda number, data: printed.write(data) if number == 1 else real_write(number, data)
        os._exit = end
        threading.Thread.start, threading.Thread.join = threading.Thread.run, lambda self, timeout=None: None
        atexit._clear()
        try:
            for part in (lambda: _run(code, "__main__"), atexit._run_exitfuncs):
                with contextlib.suppress(SystemExit):  # judged is what was printed
                    part()
        finally:
            sys.stdin, sys.stdout = before
            builtins.open = io.open = real_open
            os.read, os.write = real_read, real_write
        return _settle(lambda: _words(printed.getvalue().decode()))()

    return f
