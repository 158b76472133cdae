"""How intricate a program is and how far it is from others, and what of it is noted of a proposal that became a task:
metrics always, terms of its reward where they have a weight.

All of it is read off the syntax tree with one walk each, and a tree is looked at up to LARGEST nodes only, so the
cost of a program is bounded whatever a model writes. The distance between trees is that of their pq-grams (each node
with its parent and each run of three children): it follows tree edit distance, in linear time where that takes cubic.
"""

from __future__ import annotations

import ast
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from azr_jax.tasks.history import History
from azr_jax.tasks.programs import parse
from azr_jax.tasks.types import Kind, Task

# A term is one half here: the medians of the public 7B seed programs.
HALF_COMPLEXITY, HALF_VOLUME = 3.0, 200.0
LARGEST = 4000  # nodes of a tree that are looked at
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)


@dataclass(frozen=True, slots=True)
class Traits:
    complexity: int
    halstead: float  # volume
    lines: int
    ast_distance: float  # mean, to the references it was proposed with
    answer_diversity: float  # how rare its answer is among all kept so far
    nearest: float  # distance to the nearest task kept so far, those before it in its batch too
    mean_distance: float  # distance at the mean overlap with all of these

    @property
    def familiarity(self) -> dict[str, float]:
        """As numbers from 0 to 1, by the names of rewards.memory."""
        return {"nearest": 1.0 - self.nearest, "mean": 1.0 - self.mean_distance}

    def terms(self, kind: Kind) -> dict[str, float]:
        """As numbers from 0 to 1, by the names of rewards.intrinsic. Of a program that is not the proposer's, as in
        induction, only the answers can earn anything.
        """
        own = not kind.about_a_program
        return {
            "complexity": squash(self.complexity, HALF_COMPLEXITY) if own else 0.0,
            "halstead": squash(self.halstead, HALF_VOLUME) if own else 0.0,
            "ast_distance": self.ast_distance if own else 0.0,
            "answer_diversity": self.answer_diversity,
        }


def traits(task: Task, written: str, shown: Sequence[str], history: History) -> Traits:
    """`written` is the part of the program that the proposer wrote, `shown` are the programs it was shown."""
    return Traits(
        complexity=complexity(written),
        halstead=halstead(written).volume,
        lines=len(written.splitlines()),
        ast_distance=distance_to(written, shown),
        answer_diversity=history.surprise(task),
        nearest=history.nearest(task),
        mean_distance=history.mean_distance(task),
    )


@dataclass(frozen=True, slots=True)
class Halstead:
    """Halstead's counts; operators are what the tree does, operands the names and constants it does it to."""

    operators: int
    operands: int
    distinct_operators: int
    distinct_operands: int

    @property
    def volume(self) -> float:
        words = self.distinct_operators + self.distinct_operands
        return (self.operators + self.operands) * math.log2(words) if words else 0.0


def complexity(program: str) -> int:
    """Branches, each counted once more for every branch or nested function around it; `and`/`or` chains count one."""
    total = 0
    waiting = deque((node, 0) for node in _roots(program))
    for _ in range(LARGEST):
        if not waiting:
            break
        node, depth = waiting.popleft()
        if isinstance(node, BRANCHES):
            total += 1 + depth
            depth += 1
        elif isinstance(node, ast.BoolOp):
            total += 1
        elif isinstance(node, (ast.FunctionDef, ast.Lambda)) and depth:
            depth += 1
        waiting.extend((child, depth) for child in ast.iter_child_nodes(node))
    return total


def halstead(program: str) -> Halstead:
    operators: Counter[str] = Counter()
    operands: Counter[str] = Counter()
    for node in _nodes(program):
        if isinstance(node, ast.Name):
            operands[node.id] += 1
        elif isinstance(node, ast.arg):
            operands[node.arg] += 1
        elif isinstance(node, ast.Constant):
            operands[f"{type(node.value).__name__}:{node.value!r:.200}"] += 1
        elif isinstance(node, ast.Attribute):
            operators[f".{node.attr}"] += 1
        elif isinstance(node, (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.stmt, ast.Call, ast.Subscript)):
            operators[type(node).__name__] += 1
    return Halstead(operators.total(), operands.total(), len(operators), len(operands))


def ast_distance(a: str, b: str) -> float:
    """0 for trees of the same shape and names, 1 for trees with nothing in common."""
    return _profile_distance(grams(a), grams(b))


def distance_to(program: str, others: Sequence[str]) -> float:
    """Mean distance to the references a program was proposed with; 1 where there were none."""
    if not others:
        return 1.0
    own = grams(program)
    return sum(_profile_distance(own, grams(other)) for other in others) / len(others)


def disagreement(answers: Sequence[str]) -> float:
    """The chance that two attempts at a task gave different answers; 0 with fewer than two."""
    n = len(answers)
    if n < 2:
        return 0.0
    return 1.0 - sum(c * (c - 1) for c in Counter(answers).values()) / (n * (n - 1))


def squash(value: float, half: float) -> float:
    """A count as a number in [0, 1): 0 at 0, one half at `half`. For terms of a reward."""
    return value / (value + half)


def _roots(program: str) -> list[ast.AST]:
    tree = parse(program)
    return [tree] if tree else []


def _nodes(program: str) -> list[ast.AST]:
    """Breadth first, so that a cut leaves out the deepest."""
    nodes = _roots(program)
    for node in nodes:
        if len(nodes) >= LARGEST:
            break
        nodes.extend(ast.iter_child_nodes(node))
    return nodes[:LARGEST]


def _label(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant):
        return f"{node.value!r:.40}"
    if isinstance(node, ast.Attribute):
        return f".{node.attr}"
    return type(node).__name__


def grams(program: str) -> Counter[str]:
    """The pq-grams of the tree, p = 2 and q = 3, counted."""
    found: Counter[str] = Counter()
    waiting = deque(("*", node) for node in _roots(program))
    left = LARGEST
    while waiting:
        parent, node = waiting.popleft()
        own = _label(node)
        children = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr_context)][:left]
        left -= len(children)
        labels = ["*", "*", *map(_label, children), "*", "*"] if children else ["*", "*", "*"]
        for i in range(len(labels) - 2):
            found["\t".join((parent, own, *labels[i : i + 3]))] += 1
        waiting.extend((own, child) for child in children)
    return found


def _profile_distance(a: Counter[str], b: Counter[str]) -> float:
    total = a.total() + b.total()
    return 1.0 - 2.0 * (a & b).total() / total if total else 0.0
