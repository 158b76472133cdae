"""What the Absolute Zero paper reports of published models, to stand beside what is measured here: percent, greedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from azr_jax.evals.suites import GROUPS

_ROWS = {  # in the order of the group `paper`
    "Qwen2.5-7B": (73.2, 65.3, 17.5, 6.7, 3.3, 37.5, 64.8, 25.0, 27.7),
    "Absolute_Zero_Reasoner-Base-7b": (71.3, 69.1, 25.3, 13.3, 13.3, 52.5, 74.4, 38.2, 38.5),
    "Qwen2.5-Coder-7B": (80.5, 69.3, 19.9, 6.7, 3.3, 40.0, 54.0, 17.3, 21.9),
    "Absolute_Zero_Reasoner-Coder-7b": (83.5, 69.6, 31.7, 20.0, 10.0, 57.5, 72.6, 36.4, 38.2),
    "Absolute_Zero_Reasoner-Coder-3b": (71.3, 69.0, 24.4, 3.3, 3.3, 37.5, 62.0, 26.1, 27.0),
    "Absolute_Zero_Reasoner-Coder-14b": (80.5, 71.2, 39.0, 23.3, 20.0, 65.0, 78.6, 32.0, 39.3),
    "Qwen2.5-14B": (78.0, 66.7, 21.7, 6.7, 3.3, 35.0, 66.2, 28.3, 32.4),
    "Absolute_Zero_Reasoner-Base-14b": (70.7, 68.8, 35.2, 10.0, 20.0, 62.5, 76.2, 40.4, 42.5),
}


def row(model: str) -> dict[str, float]:
    """By suite; empty for a model that is not in the paper's table. The last part of its name says which it is."""
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    found = next((values for known, values in _ROWS.items() if known.lower() == name), None)
    return {} if found is None else dict(zip(GROUPS["paper"], found, strict=True))


def beside(model: str, measured: Mapping[str, float]) -> tuple[list[str], Sequence[Sequence[str]]] | None:
    """The paper's figures of the suites measured here, and the measured shares, as a table."""
    known = row(model)
    suites = [suite for suite in known if suite in measured]
    if not suites:
        return None
    paper = [f"{known[suite]:.1f}" for suite in suites]
    return ["", *suites], [["the paper", *paper], ["here", *(f"{100 * measured[suite]:.1f}" for suite in suites)]]
