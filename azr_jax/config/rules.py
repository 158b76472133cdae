"""What the value of a config field may be: how a flag's text is read, what is good, and how that is said in words.

`rules_of` reads the rules off a dataclass of settings, section by section.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class FieldRule:
    """What a field may be: `parse` reads a flag's text, `good` judges a value, `wanted` says it in words."""

    parse: Callable[[str], Any]
    good: Callable[[Any], bool]
    wanted: str


def integer(low: int, high: int | None = None, why: str = "") -> FieldRule:
    def good(value: object) -> bool:
        return type(value) is int and value >= low and (high is None or value <= high)

    wanted = f"a whole number from {low}" + (f" to {high}" if high is not None else " up")
    return FieldRule(int, good, f"{wanted}: {why}" if why else wanted)


def multiple_or_0(of: int) -> FieldRule:
    def good(value: object) -> bool:
        return type(value) is int and value >= 0 and value % of == 0

    return FieldRule(int, good, f"0 or a multiple of {of}")


def number(low: float, high: float = math.inf, *, above: bool = False) -> FieldRule:
    def good(value: object) -> bool:
        if not isinstance(value, (int, float)) or type(value) not in (int, float):
            return False
        return low <= value <= high and math.isfinite(value) and not (above and value == low)

    bounds = f"above {low:g}" if above else f"from {low:g}"
    return FieldRule(float, good, f"a number {bounds}" + (f" to {high:g}" if high != math.inf else " up"))


def number_or(word: str, low: float, high: float) -> FieldRule:
    """A number, or one word in its place."""
    numbers = number(low, high)
    return FieldRule(
        lambda text: text if text == word else float(text),
        lambda value: value == word or numbers.good(value),
        f"{numbers.wanted}, or {word}",
    )


def one_of(*names: str) -> FieldRule:
    return FieldRule(str, lambda value: value in names, " | ".join(names))


def _listed(value: object) -> Sequence[object]:
    """The items of a list or tuple; of anything else one that no rule takes."""
    return [*cast("Sequence[object]", value)] if isinstance(value, (tuple, list)) else [None]


def some_of(*names: str, empty: bool = False) -> FieldRule:
    def parse(text: str) -> tuple[str, ...]:
        if text.strip().startswith(("(", "[")):
            return tuple(ast.literal_eval(text))
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def good(value: object) -> bool:
        items = _listed(value)
        if not (items or empty):
            return False
        return all(isinstance(item, str) and item in names for item in items) and len(set(items)) == len(items)

    return FieldRule(
        parse, good, f"{'any' if empty else 'at least one'} of {', '.join(names)}, each once, joined by commas"
    )


def kind_names(*names: str) -> FieldRule:
    """Of these, or a user's own, of which only the form can be told here."""

    def good(value: object) -> bool:
        items = _listed(value)
        if not items or not all(isinstance(one, str) and (one in names or ":" in one) for one in items):
            return False
        return len(set(items)) == len(items)

    wanted = f"at least one of {', '.join(names)}, or your own as module:Class, each once, joined by commas"
    return FieldRule(some_of().parse, good, wanted)


def identifiers() -> FieldRule:
    def good(value: object) -> bool:
        items = _listed(value)
        return all(isinstance(one, str) and one.isidentifier() for one in items) and len(set(items)) == len(items)

    return FieldRule(some_of().parse, good, "names that an import statement takes, each once, joined by commas")


def integers(low: int) -> FieldRule:
    def parse(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.strip("()[] ").split(",") if part.strip())

    def good(value: object) -> bool:
        return all(type(item) is int and item >= low for item in _listed(value))

    return FieldRule(parse, good, f"whole numbers from {low} up, joined by commas")


def assigned(*names: str, low: float = -math.inf, known: Callable[[str], bool] | None = None) -> FieldRule:
    """Numbers by name, each as `name=number`. `known` says which names there are, where more than `names`."""
    is_known = known or names.__contains__

    def good(value: object) -> bool:
        try:
            given = [(name, float(number)) for name, _, number in (str(item).partition("=") for item in _listed(value))]
        except ValueError:
            return False
        good = all(is_known(name) and math.isfinite(number) and number >= low for name, number in given)
        return good and len(dict(given)) == len(given)

    numbers = "" if low == -math.inf else f" and numbers from {low:g} up"
    return FieldRule(
        some_of().parse, good, f"name=number, joined by commas, with names from {', '.join(names)}{numbers}"
    )


def text(*, empty: bool = True) -> FieldRule:
    return FieldRule(
        str, lambda value: isinstance(value, str) and bool(value or empty), "a text" + ("" if empty else ", not empty")
    )


def texts() -> FieldRule:
    def good(value: object) -> bool:
        return all(isinstance(item, str) and item for item in _listed(value))

    return FieldRule(some_of().parse, good, "texts joined by commas")


def boolean() -> FieldRule:
    words = {"true": True, "1": True, "false": False, "0": False}
    return FieldRule(lambda word: words[word.lower()], lambda value: type(value) is bool, "true or false")


@dataclass(frozen=True)
class Reference:
    """What `preset=reference` fills in, where `preset=paper` fills in the value that stands at the field."""

    value: object


@dataclass(frozen=True)
class Overlapped:
    """What stale tokens (`pipeline`) fill in, where the value that stands at the field is for runs without."""

    value: object


Presets = dict[str, dict[str, Any]]


def rules_of(section: type) -> tuple[dict[str, FieldRule], Presets, dict[str, tuple[Any, Any]]]:
    """By the names that flags have: the rule of each field, what each preset fills in, and what is filled in where no
    token is stale and where some are.
    """
    leaves = list(_leaves(section))
    presets: Presets = {"paper": {}, "reference": {}}
    for name, default, notes in leaves:
        for note in notes:
            if isinstance(note, Reference):
                presets["paper"][name], presets["reference"][name] = default, note.value
    overlapped = {
        name: (default, n.value) for name, default, notes in leaves for n in notes if isinstance(n, Overlapped)
    }
    rules = {name: next(note for note in notes if isinstance(note, FieldRule)) for name, _, notes in leaves}
    return rules, presets, overlapped


def _leaves(section: type, path: str = "") -> Iterator[tuple[str, object, Sequence[object]]]:
    """(name, value, what is noted beside its type) of every field, those of sections inside too."""
    hints = get_type_hints(section, include_extras=True)
    for field in fields(section):
        name, hint = path + field.name, hints[field.name]
        if is_dataclass(field.default):
            yield from _leaves(type(field.default), name + ".")
        elif get_origin(hint) is Annotated:
            kind, *notes = get_args(hint)
            yield name, field.default, [*notes, *_of_type(kind)]
        else:
            yield name, field.default, _of_type(hint)


def _of_type(kind: object) -> Sequence[object]:
    """The rule that a type says by itself."""
    if get_origin(kind) is Literal:
        return [one_of(*get_args(kind))]
    return {bool: [boolean()], str: [text()]}.get(cast("type", kind), [])
