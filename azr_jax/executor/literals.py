"""Reads the text of a plain Python literal without `ast`: the one reader of model text in the trusted process.

Python's own parser can be made to recurse, to run for minutes or to fall over; this one is a flat tokenizer and a
short descent with a depth limit. It need not be complete: whatever it does not know (prefixes, triple quotes,
joined strings, arithmetic, calls) it leaves to a jailed child by raising NotLiteral. What it does read, it reads as
Python would; asked for what is `written` out (written.py), it leaves to the child also what says a member or key twice.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from azr_jax.executor.values import MAX_CHARS, MAX_DEPTH, Value

Held = TypeVar("Held", set[Any], dict[Any, Any])


class NotLiteral(ValueError):
    """The text is not one of the literals read here; it may still be a fine expression."""


_TOKEN = re.compile(
    r"""[ \t\n]*(?:
      (?P<number>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|0|[1-9]\d*)(?![\w.])
    | (?P<string>'(?:[^'\\\n\r\x00]|\\[^\n\r\x00])*'(?!')|"(?:[^"\\\n\r\x00]|\\[^\n\r\x00])*"(?!"))
    | (?P<name>None|True|False)(?!\w)
    | (?P<mark>[][(){},:+-])
    )""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_NAMES = {"None": None, "True": True, "False": False}
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_MAX_DIGITS = 4_300  # as Python's own limit, without asking what this process has set


def read(text: str, *, written: bool = False) -> Value:
    """The value of a literal; a bare `1, 2` is a tuple, as it is for Python."""
    text = text.strip(" \t\n")
    if len(text) > MAX_CHARS or (not text.isprintable() and re.search(r"[\ud800-\udfff]", text)):
        raise NotLiteral(text[:40])
    if re.fullmatch(r"set[ \t]*\([ \t\n]*\)", text):
        return set[Value]()
    reader = _Reader(_tokens(text), once=written)
    value = reader.value(0)
    if reader.mark == ",":
        value = tuple(reader.more(value, "", 0))
    if reader.kind != "end":
        raise NotLiteral(text[:40])
    return value


def _tokens(text: str) -> list[tuple[str, str]]:
    """Tokens with an end mark. A line break outside brackets ends a Python expression, so it is refused here."""
    tokens: list[tuple[str, str]] = []
    place, depth = 0, 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise NotLiteral(text[place : place + 40])
        if depth == 0 and "\n" in text[place : match.start(match.lastgroup)]:
            raise NotLiteral("line break outside brackets")
        token = match.group(match.lastgroup)
        depth += (token in _CLOSING) - (token in (")", "]", "}"))
        tokens.append((match.lastgroup, token))
        place = match.end()
    return [*tokens, ("end", "")]


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]], once: bool) -> None:
        self._tokens, self._once = iter(tokens), once
        self.kind, self._text = next(self._tokens)

    @property
    def mark(self) -> str:
        """The punctuation mark at hand, or nothing."""
        return self._text if self.kind == "mark" else ""

    def take(self, mark: str = "") -> str:
        text = self._text
        if self.kind == "end" or (mark and self.mark != mark):
            raise NotLiteral(f"{mark or 'a value'} was due")
        self.kind, self._text = next(self._tokens)
        return text

    def takes(self, mark: str) -> bool:
        """Whether this one is at hand, and then it is taken."""
        found = self.mark == mark
        if found:
            self.take()
        return found

    def value(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise NotLiteral("nested too deep")
        if self.mark in ("+", "-"):
            sign = self.take()
            if self.kind != "number":
                raise NotLiteral("a number was due")
            number = _number(self.take())
            return -number if sign == "-" else number
        if self.kind == "mark":
            return self.display(depth + 1)
        kind = self.kind
        text = self.take()
        if kind == "number":
            return _number(text)
        return _NAMES[text] if kind == "name" else _string(text[1:-1])

    def display(self, depth: int) -> Value:
        """What stands between brackets."""
        opening = self.take()
        closing = _CLOSING.get(opening)
        if closing is None:
            raise NotLiteral(f"{opening} out of place")
        if opening == "{":
            return self.braces(depth)
        if self.takes(closing):
            return () if opening == "(" else []
        first = self.value(depth)
        if opening == "(" and self.takes(closing):
            return first
        values = self.more(first, closing, depth)
        self.take(closing)
        return tuple(values) if opening == "(" else values

    def more(self, first: Value, closing: str, depth: int) -> list[Any]:
        """The values after the first, a trailing comma allowed."""
        values = [first]
        while self.takes(","):
            if self.kind == "end" or (closing and self.mark == closing):
                break
            values.append(self.value(depth))
        return values

    def braces(self, depth: int) -> Value:
        if self.takes("}"):
            return {}
        first = self.value(depth)
        try:
            if self.mark != ":":
                members = self.more(first, "}", depth)
                self.take("}")
                return self.unlike(set(members), len(members))
            return self.pairs(first, depth)
        except TypeError:
            raise NotLiteral("a key that cannot be hashed") from None

    def pairs(self, key: Value, depth: int) -> dict[Any, Any]:
        self.take(":")
        pairs, count = {key: self.value(depth)}, 1
        while self.takes(","):
            if self.mark == "}":
                break
            key = self.value(depth)
            self.take(":")
            pairs[key] = self.value(depth)
            count += 1
        self.take("}")
        return self.unlike(pairs, count)

    def unlike(self, held: Held, count: int) -> Held:
        """What was made of so many, where one may have been dropped for being equal to another."""
        if self._once and len(held) < count:
            raise NotLiteral("said twice")
        return held


def _number(text: str) -> int | float:
    if not text.isdigit():
        return float(text)
    if len(text) > _MAX_DIGITS:
        raise NotLiteral("a number of too many digits")
    try:
        return int(text)
    except ValueError:  # this process allows fewer digits than that
        raise NotLiteral("a number of too many digits") from None


def _string(body: str) -> str:
    return _ESCAPE.sub(_unescape, body) if "\\" in body else body


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) > 1:
        try:
            return chr(int(code[1:], 16))
        except (ValueError, OverflowError):
            raise NotLiteral("no such character") from None
    if code not in _ESCAPED:
        raise NotLiteral("an unusual escape")
    return _ESCAPED[code]
