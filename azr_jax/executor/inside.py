"""Appended as text to a program that an evaluation judges, and run with it in the jail.

Nothing here knows an expected value. A program can change all of this for itself, and gains what it gains by returning
something else: its own outcome. The evaluation imports `_settle` alone, for values that a benchmark states.
`_run_script` needs `exec` because a script starts anew for each input.
"""

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

    def walk(one, out):
        kind = type(one)
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


def _settle(function, not_none=False):
    """The function, with long results as digests; with `not_none`, a result that is no truth value as: is there one."""
    running = []

    def f(*arguments, **named):
        if running:  # a program's own call of a function that happens to be named f
            return function(*arguments, **named)
        running.append(1)
        try:
            value = function(*arguments, **named)
        finally:
            running.pop()
        if not_none and not isinstance(value, bool):
            return value is not None
        size, floats = _size(value, _LONG_WITH_FLOATS)
        if size <= (_LONG_WITH_FLOATS if floats else _LONG):
            return value
        mark = _digest(value)
        return value if mark is None else ("digest of a long value", mark)

    return f


def _method(name):
    """The function, or the method of a fresh Solution, of that name; tuples come back as the lists JSON has."""
    import copy

    def call(*arguments):
        there = globals().get("Solution")
        function = getattr(there(), name) if there is not None and hasattr(there, name) else globals()[name]
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


def _run_script(source):
    """`f(text)`: what the script prints when the text is its standard input; a long one as its digest."""
    import io
    import sys

    def f(text):
        spoken, heard = io.StringIO(), io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
        before = sys.stdin, sys.stdout
        sys.stdin, sys.stdout = heard, spoken
        try:
            exec(compile(source, "script", "exec", dont_inherit=True), {"__name__": "__main__"})
        except SystemExit as end:
            if end.code not in (None, 0):
                raise RuntimeError("the script ended with an error") from None
        finally:
            sys.stdin, sys.stdout = before
        lines = spoken.getvalue().strip().split("\n")
        return _settle(lambda: [line.strip() for line in lines])()

    return f
