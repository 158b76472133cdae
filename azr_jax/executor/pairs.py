"""Which cases of an induction proposal make its task, and which of them the solver is shown.

What is hidden has to follow from what is shown, or a task nobody can solve is paid for being hard. So that it can:

- Two inputs that give the program's parameters the same values are one.
- The outputs shown are not all equal, nor those hidden, as far as the outputs allow: one that is always the same asks
  for nothing, and a constant program would be right about it.
- An output that the program holds as a constant is shown: no other pair tells of it. With more of them than pairs to be
  shown the program is a table, and refused.
- Arguments that hidden inputs name are named by shown ones: a solver chooses names of its own else, and its program is
  called by others.

The last three are `tasks.induction_pairs=inducible`. Where the order of the proposal gives them, it stays. Else cases
change places, by a rule that looks at program, inputs and outputs alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from azr_jax.executor.cases import Case
from azr_jax.executor.constants import mark
from azr_jax.executor.equality import key
from azr_jax.executor.values import Refused, decode


@dataclass(frozen=True, slots=True)
class Pair:
    number: int  # of the input in its proposal
    value: str  # the output, in the codec
    text: str  # and as Python text
    output: Hashable  # and equal for what is the same
    given: Hashable  # the input, equal for what is the same
    positional: int = 0  # arguments without a name
    names: frozenset[str] = frozenset()  # and those with one


def pair(number: int, case: Case, given: str, text: str) -> Pair:
    """Of a case that has a value; `given` is its input as it was written, `text` its output as Python text."""
    value = case.value or ""
    identity: Hashable = (str, given)  # of what is not plain
    positional, names = 0, frozenset[str]()
    try:
        values, positional, named = decode(case.given or "")
        if (type(positional), type(named)) != (int, tuple) or not all(type(name) is str for name in named):
            raise Refused("not what a child says of an input")
        names = frozenset[str](named)
        identity = identity if values is None else (tuple, key(values))
    except (Refused, TypeError, ValueError):
        positional = 0
    return Pair(number, value, text, key(decode(value)), identity, positional, names)


def different(pairs: Sequence[Pair]) -> list[Pair]:
    """The first of those that are the same input."""
    first: dict[Hashable, Pair] = {}
    for one in pairs:
        first.setdefault(one.given, one)
    return list(first.values())


def arranged(pairs: Sequence[Pair], shown: int, constants: frozenset[str]) -> tuple[list[Pair], str]:
    """All of them, those to be shown first; or the reason why what is hidden cannot be induced. Two outputs differ."""
    own = {one.output: one for one in reversed(pairs) if mark(one.value) in constants}  # the first of each
    if len(own) > shown:
        return [], "a table of constants"
    front = list(pairs[:shown])
    if not own.keys() <= {one.output for one in front}:
        needed = list(own.values())
        others = [one for one in pairs if one not in needed]
        front = needed + others[: shown - len(needed)]
    back = [one for one in pairs if one not in front]
    _vary(front, back, frozenset(own))
    if not _callable(front, back):
        _name_first(front, back, frozenset(own))
    order = sorted(front, key=_place) + sorted(back, key=_place)
    return (order, "") if _callable(order[:shown], order[shown:]) else ([], "argument names not shown")


def _place(one: Pair) -> int:
    return one.number


def _vary(front: list[Pair], back: list[Pair], own: frozenset[Hashable]) -> None:
    """Exchanges one case where either side has a single output, if it can be helped."""
    if len(front) > 1 and len({one.output for one in front}) == 1:
        other = next(place for place, one in enumerate(back) if one.output != front[0].output)
        front[-1], back[other] = back[other], front[-1]
    if len(back) > 1 and len({one.output for one in back}) == 1:
        others = [place for place, one in enumerate(front) if one.output != back[0].output]
        outputs = [one.output for one in front]
        free = [p for p in others if outputs[p] not in own or outputs.count(outputs[p]) > 1]
        if len(others) > 1 and free:
            front[free[-1]], back[0] = back[0], front[free[-1]]


def _name_first(front: list[Pair], back: list[Pair], own: frozenset[Hashable]) -> None:
    """Exchanges cases until the shown ones name what the hidden ones do, where there is room for it."""
    for _ in range(len(front)):
        named, most = frozenset[str]().union(*(one.names for one in front)), max(one.positional for one in front)
        needed = [p for p, one in enumerate(back) if not one.names <= named or (named and one.positional > most)]
        outputs = [one.output for one in front]
        free = [
            place for place, one in enumerate(front)
            if (one.output not in own or outputs.count(one.output) > 1)
            and one.names <= frozenset[str]().union(*(o.names for o in front if o is not one))
        ]  # fmt: skip
        if not needed or not free:
            return
        front[free[-1]], back[needed[0]] = back[needed[0]], front[free[-1]]


def _callable(shown: Sequence[Pair], hidden: Sequence[Pair]) -> bool:
    """Whether a program written for the calls shown can be called as the hidden ones call it."""
    named = frozenset[str]().union(*(one.names for one in shown))
    if any(not one.names <= named for one in hidden):
        return False
    most = max(one.positional for one in shown)
    return not named or all(one.positional <= most for one in hidden)
