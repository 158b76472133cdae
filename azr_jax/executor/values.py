"""The one codec for Python values that cross the wall: exact plain types as JSON text, or a refusal.

A child encodes, the trusted parent decodes; neither side uses pickle, repr or eval. Only exact types pass, so the
decoded value has nothing of the program in it: no subclass, no __eq__, no cycle. Text length bounds everything
else (nodes, digits, colliding keys), because every element costs characters. Left out on purpose: shared
references (a list that is reached twice comes back as two lists) and every type not in the tables below.
"""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from typing import Any, NoReturn, cast

from azr_jax.executor.equality import Json, Value, crowded
from azr_jax.executor.equality import same as same

MAX_CHARS = 16_384  # of the encoded text
MAX_DEPTH = 60
MAX_INT_BITS = 14_000  # what Python still prints in decimal: 4,300 digits
_SMALL = 1 << 53
# The closing quote is optional: were it not, each quote of a text that never closes one would be read to the end again.
_NO_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[^\[\]{}"]+', re.DOTALL)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}
_type_of: Callable[[object], type[object]] = type
_name_of = type.__dict__["__name__"].__get__  # not asked of a class, whose metaclass may be the program's
_FACTORIES = {c.__name__: c for c in (int, float, str, bool, list, tuple, dict, set, frozenset, bytes)}


# Types beside the plain ones, and how to make a plain value of them: empty but where programs may use packages.
ALSO: dict[type, Callable[[Any], Any]] = {}


class Refused(ValueError):
    """The value, or the text, is not something that may cross the wall. The message is the reason."""


def encode(value: object) -> str:
    """The value as JSON text. Equal sets give equal text, whatever order they are held in."""
    text = as_json(_Packer().pack(value, 0))
    if len(text) > MAX_CHARS:
        raise Refused("value too large")
    return text


def decode(text: str) -> Value:
    """The value of an encoded text; anything that `encode` would not have written is refused."""
    if len(text) > MAX_CHARS:
        raise Refused("value too large")
    try:
        return _unpack(parse_json(text), 0)
    except Refused:
        raise
    except Exception as error:  # whatever the text makes a constructor raise: it is the text that is wrong
        raise Refused(f"not an encoded value: {type(error).__name__}") from None


def show(value: object) -> str:
    """The value as Python text for prompts: its repr where that can be read back, else a call that can."""
    shower = _SHOW.get(type(value))
    return repr(value) if shower is None else shower(value)


# ---------------------------------------------------------------------------------------------- value -> JSON
as_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # made once; trees have no cycles


def parse_json(text: str) -> Json:
    """`json.loads` for text from a child: no floats, no long numbers, and no depth that could exhaust the C stack.

    Neither the recursion limit nor the digit limit of this process is relied on: a trainer may have raised both.
    """
    if text.count("[") + text.count("{") > MAX_DEPTH:
        brackets = _NO_BRACKET.sub("", text)
        if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > 4 * MAX_DEPTH:
            raise Refused("value nested too deep")
    return _DECODER.decode(text)


def _no_number(text: str) -> NoReturn:
    raise Refused(f"not an encoded value: {text[:20]}")


def _short_integer(text: str) -> int:
    return int(text) if len(text) <= 17 else _no_number(text)


_DECODER = json.JSONDecoder(parse_float=_no_number, parse_constant=_no_number, parse_int=_short_integer)


class _Packer:
    """One walk over a value, with a budget so that a huge or self-containing value stops early."""

    def __init__(self) -> None:
        self.left = MAX_CHARS

    def pack(self, value: Value, depth: int) -> Json:
        kind = _type_of(value)
        if depth > MAX_DEPTH:
            raise Refused("value nested too deep")
        self.spend(1)
        if value is None or kind is bool:
            return value
        if kind is str:
            self.spend(len(value))
            return value
        if kind is int:
            return self.integer(value)
        if kind is list:
            return self.each(value, depth)
        pack = _PACK.get(kind)
        if pack is None:
            plain = ALSO.get(kind)
            if plain is not None:
                return self.pack(plain(value), depth)
            raise Refused(f"not a plain value: {_name_of(kind)[:60]}")
        tag, parts = pack
        return {tag: parts(self, value, depth + 1)}

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Refused("value too large")

    def integer(self, value: int) -> Json:
        if -_SMALL < value < _SMALL:
            return value
        if value.bit_length() > MAX_INT_BITS:
            raise Refused("integer too large")
        self.spend(value.bit_length() // 4)
        return {"i": format(value, "x")}

    def each(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.pack(v, depth + 1) for v in values]

    def pairs(self, value: dict[Any, Any], depth: int) -> list[Any]:
        return [[self.pack(k, depth), self.pack(v, depth)] for k, v in value.items()]

    def members(self, value: Iterable[Any], depth: int) -> list[Any]:
        return sorted(self.each(value, depth), key=as_json)

    def factory(self, value: defaultdict[Any, Any], depth: int) -> list[Any]:
        name = None
        if value.default_factory is not None:
            name = next((n for n, c in _FACTORIES.items() if c is value.default_factory), None)
            if name is None:
                raise Refused("not a plain value: defaultdict with a factory of its own")
        return [name, self.pairs(value, depth)]

    def decimal(self, value: Decimal, depth: int) -> str:
        if value.is_snan():
            raise Refused("not a plain value: signalling NaN")
        digits = str(value)
        self.spend(len(digits))
        return digits

    def blob(self, value: bytes, depth: int) -> str:
        self.spend(2 * len(value))
        return value.hex()

    def moment(self, value: datetime.datetime, depth: int) -> list[Any]:
        offset = None
        if value.tzinfo is not None:
            if type(value.tzinfo) is not datetime.timezone:
                raise Refused("not a plain value: time zone")
            offset = _delta(datetime.timezone.utcoffset(value.tzinfo, None))
        clock = [value.hour, value.minute, value.second, value.microsecond, value.fold]
        return [value.year, value.month, value.day, *clock, offset]

    def clock(self, value: datetime.time, depth: int) -> list[int]:
        if value.tzinfo is not None:
            raise Refused("not a plain value: time zone")
        return [value.hour, value.minute, value.second, value.microsecond, value.fold]


def _delta(value: datetime.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


_PACK: dict[type, tuple[str, Callable[[_Packer, Any, int], Any]]] = {
    float: ("f", lambda p, v, d: repr(v)),
    complex: ("c", lambda p, v, d: [repr(v.real), repr(v.imag)]),
    bytes: ("b", _Packer.blob),
    tuple: ("t", _Packer.each),
    dict: ("d", _Packer.pairs),
    set: ("s", _Packer.members),
    frozenset: ("z", _Packer.members),
    range: ("r", lambda p, v, d: [p.integer(v.start), p.integer(v.stop), p.integer(v.step)]),
    Counter: ("C", _Packer.pairs),
    OrderedDict: ("O", _Packer.pairs),
    defaultdict: ("D", _Packer.factory),
    deque: ("q", lambda p, v, d: [v.maxlen, p.each(v, d)]),
    Fraction: ("F", lambda p, v, d: [p.integer(v.numerator), p.integer(v.denominator)]),
    Decimal: ("m", _Packer.decimal),
    datetime.date: ("date", lambda p, v, d: [v.year, v.month, v.day]),
    datetime.time: ("time", _Packer.clock),
    datetime.datetime: ("datetime", _Packer.moment),
    datetime.timedelta: ("delta", lambda p, v, d: _delta(v)),
}


# ---------------------------------------------------------------------------------------------- JSON -> value
def _unpack(tree: Json, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise Refused("value nested too deep")
    if type(tree) is list:
        return [_unpack(v, depth + 1) for v in tree]
    if type(tree) is not dict:
        return tree
    ((tag, body),) = tree.items()
    return _UNPACK[tag](body, depth + 1)


def _each(body: Json, depth: int) -> list[Any]:
    if type(body) is not list:
        raise Refused("not an encoded value: a list was due")
    return [_unpack(v, depth + 1) for v in body]


def _pairs(body: Json, depth: int) -> list[tuple[Any, Any]]:
    return [(_unpack(k, depth), _unpack(v, depth)) for k, v in _listed(body, None, list)]


def _spread(keys: list[Any]) -> list[Any]:
    if crowded(keys):
        raise Refused("too many keys of one hash")
    return keys


def _mapping(body: Json, depth: int) -> dict[Any, Any]:
    pairs = _pairs(body, depth)
    _spread([k for k, _ in pairs])
    return dict(pairs)


def _listed(body: Json, length: int | None, *kinds: type) -> list[Any]:
    """The body, if it is a list of so many members of these types."""
    if type(body) is not list or length not in (None, len(body)) or any(type(v) not in kinds for v in body):
        raise Refused("not an encoded value: other parts were due")
    return body


def _text(body: Json, most: int = MAX_CHARS) -> str:
    if type(body) is not str or len(body) > most:
        raise Refused("not an encoded value: a text was due")
    return body


def _integer(body: Json) -> int:
    value = _unpack(body, MAX_DEPTH - 1)
    if type(value) is not int:
        raise Refused("not an encoded value: an integer was due")
    return value


def _integers(body: Json, length: int) -> list[int]:
    """Small ones. The constructors of `datetime` take other things too, texts of their own pickles among them."""
    return _listed(body, length, int)


def _hex(body: Json) -> int:
    value = int(_text(body), 16)
    if value.bit_length() > MAX_INT_BITS:
        raise Refused("integer too large")
    return value


def _float(body: Json) -> float:
    return float(_text(body, 32))  # no float's repr is longer


def _complex(body: Json) -> complex:
    real, imaginary = _listed(body, 2, str)
    return complex(_float(real), _float(imaginary))


def _decimal(body: Json) -> Decimal:
    value = Decimal(_text(body))
    if value.is_snan():
        raise Refused("not a plain value: signalling NaN")
    return value


def _whole_numbers(body: Json, length: int) -> list[int]:
    if type(body) is not list or len(body) != length:
        raise Refused("not an encoded value: so many integers were due")
    return [_integer(part) for part in body]


def _factory(body: Json, depth: int) -> defaultdict[Any, Any]:
    name, pairs = _listed(body, 2, str, type(None), list)
    return defaultdict(None if name is None else _FACTORIES[_text(name)], _mapping(pairs, depth))


def _deque(body: Json, depth: int) -> deque[Any]:
    maxlen, values = _listed(body, 2, int, type(None), list)
    return deque(_each(values, depth), maxlen=None if maxlen is None else _integer(maxlen))


def _clock(body: Json) -> datetime.time:
    hour, minute, second, microsecond, fold = _integers(body, 5)
    return datetime.time(hour, minute, second, microsecond, fold=fold)


def _moment(body: Json) -> datetime.datetime:
    if type(body) is not list or len(body) != 9:
        raise Refused("not an encoded value: nine parts were due")
    *whole, offset = body
    *whole, fold = _integers(whole, 8)
    zone = None if offset is None else datetime.timezone(datetime.timedelta(*_integers(offset, 3)))
    year, month, day, hour, minute, second, microsecond = whole
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


_UNPACK: dict[str, Callable[[Any, int], Any]] = {
    "i": lambda b, d: _hex(b),
    "f": lambda b, d: _float(b),
    "c": lambda b, d: _complex(b),
    "b": lambda b, d: bytes.fromhex(_text(b)),
    "t": lambda b, d: tuple(_each(b, d)),
    "d": _mapping,
    "s": lambda b, d: set(_spread(_each(b, d))),
    "z": lambda b, d: frozenset(_spread(_each(b, d))),
    "r": lambda b, d: range(*_whole_numbers(b, 3)),
    "C": lambda b, d: Counter(_mapping(b, d)),
    "O": lambda b, d: OrderedDict(_mapping(b, d)),
    "D": _factory,
    "q": _deque,
    "F": lambda b, d: Fraction(*_whole_numbers(b, 2)),
    "m": lambda b, d: _decimal(b),
    "date": lambda b, d: datetime.date(*_integers(b, 3)),
    "time": lambda b, d: _clock(b),
    "datetime": lambda b, d: _moment(b),
    "delta": lambda b, d: datetime.timedelta(*_integers(b, 3)),
}


# ---------------------------------------------------------------------------------------------- showing
def _show_float(value: float) -> str:
    return repr(value) if value - value == 0 else f"float('{value!r}')"


def _show_complex(value: complex) -> str:
    whole = value - value == 0 and "-0" not in repr(value)
    return repr(value) if whole else f"complex({_show_float(value.real)}, {_show_float(value.imag)})"


def _show_tuple(value: tuple[Any, ...]) -> str:
    return f"({show(value[0])},)" if len(value) == 1 else f"({', '.join(map(show, value))})"


def _show_dict(value: dict[Any, Any]) -> str:
    return "{" + ", ".join(f"{show(k)}: {show(v)}" for k, v in value.items()) + "}"


def _show_members(value: Iterable[Any]) -> str:
    """Sorted, so that no prompt depends on this process's hash seed. Each is shown once: sets may hold sets."""
    try:
        shown = sorted(map(show, value)) if any(map(_has_no_place, value)) else [show(v) for v in sorted(value)]
    except TypeError:
        shown = sorted(map(show, value))
    return "{" + ", ".join(shown) + "}"


def _has_no_place(value: object) -> bool:
    """Whether `<` says nothing of it: frozensets are compared by what they contain, and NaN is never less."""
    if type(value) is tuple:
        return any(map(_has_no_place, cast("tuple[object, ...]", value)))
    return type(value) is frozenset or value != value


def _show_deque(value: deque[Any]) -> str:
    bound = "" if value.maxlen is None else f", maxlen={value.maxlen}"
    return f"deque({show(list(value))}{bound})"


def _show_default(value: defaultdict[Any, Any]) -> str:
    factory = getattr(value.default_factory, "__name__", "None")
    return f"defaultdict({factory}, {_show_dict(value)})"


_SHOW: dict[type, Callable[[Any], str]] = {
    float: _show_float,
    complex: _show_complex,
    list: lambda v: f"[{', '.join(map(show, v))}]",
    tuple: _show_tuple,
    dict: _show_dict,
    set: lambda v: _show_members(v) if v else "set()",
    frozenset: lambda v: f"frozenset({_show_members(v)})" if v else "frozenset()",
    Counter: lambda v: f"Counter({_show_dict(v)})" if v else "Counter()",
    OrderedDict: lambda v: f"OrderedDict([{', '.join(map(_show_tuple, v.items()))}])" if v else "OrderedDict()",
    defaultdict: _show_default,
    deque: _show_deque,
}
