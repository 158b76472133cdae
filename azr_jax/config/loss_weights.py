"""How much each role and kind counts in the loss: `learner.weights`, read. Plain Python, for the checks too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from azr_jax.tasks.kind import BUILT_IN, Kind
from azr_jax.tasks.types import Role

NAMES = (*Role, *(f"{role}/{kind}" for role in Role for kind in (*BUILT_IN, "<a kind of yours>")))


def is_name(text: str) -> bool:
    role, slash, kind = text.partition("/")
    return role in list(Role) and (kind.isidentifier() if slash else True)


def read(given: Iterable[str]) -> dict[str, float]:
    """{"propose": 0.5, "solve/induction": 2.0} from texts `name=number` that are known to be good."""
    return {name: float(number) for name, _, number in (text.partition("=") for text in given)}


def of_group(weights: Mapping[str, float], role: Role, kind: Kind) -> float:
    """What is said of the kind goes before what is said of its role."""
    return weights.get(f"{role}/{kind}", weights.get(role, 1.0))


def problems(given: Sequence[str], kinds: Sequence[Kind], *, proposer: bool) -> list[str]:
    weights, said = read(given), f"learner.weights={','.join(given)}"
    absent = [name for name in weights if "/" in name and name.split("/")[1] not in kinds]
    if absent:
        return [f"{said}: {', '.join(absent)} is not played; should be of tasks.kinds={','.join(kinds)}"]
    trained = [role for role in Role if proposer or role != Role.PROPOSE]
    if not any(of_group(weights, role, kind) for role in trained for kind in kinds):
        return [f"{said}: nothing is left to train; should be above 0 for some role and kind that is trained"]
    return []
