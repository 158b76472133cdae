"""EvalPlus's way to ask a chat model for a program and to find the program in what it writes.

Most published HumanEval and MBPP figures of chat models are made this way, and it is worth points: the answer is begun
for the model, and of what it writes only what the function needs is run. The request, the beginning, the stops and the
rules of what is kept are those of the EvalPlus package (0.3.1, whose limit is 768 tokens), so that figures can be held
against each other; the reading is written anew on Python's own parser. A program must bring its own imports.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from azr_jax.tasks.prompts import Prompt

SUITES = ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus")
_REQUEST = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
_BEGUN = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:"
)
_PREFIX = f"{_BEGUN}\n```python\n"
_STOPS = ("\nif __name__", "\ndef main(", "\nprint(", "\n```\n")
_MOST_READ = 5_000_000  # characters, over all that is tried: as many as 768 tokens need, and less than a second
_EACH = 100  # characters that a try costs beside its own
_LINE_END = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def prompt(problem: str) -> Prompt:
    request = f"{_REQUEST}\n```\n{problem.strip()}\n```\n"
    return Prompt(messages=({"role": "user", "content": request},), prefix=_PREFIX, stop=_STOPS)


def program(text: str, name: str) -> str | None:
    """What is run of `prefix + completion`: the imports, and what the function `name` reaches."""
    said = text.removeprefix(_PREFIX)
    ends = [place for stop in _STOPS if (place := said.find(stop)) >= 0]
    longest = _longest_that_parses(said[: min(ends, default=None)].replace("\t", "    "))
    if longest is None:
        return None
    tree = ast.parse(longest)
    defined: dict[str, ast.stmt] = {}
    for node in tree.body:
        if (own := _defines(node)) is not None:
            defined.setdefault(own, node)
    reached = _reached(name, defined)
    kept = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    kept += [node for own, node in defined.items() if own in reached]
    lines = _LINE_END.split(longest)
    return "\n".join(_source(lines, node) for node in kept) or longest


def _source(lines: list[str], node: ast.stmt) -> str:
    """`ast.get_source_segment`, which splits the whole text into lines for each node."""
    last = node.end_lineno or node.lineno
    found = [line.encode() for line in lines[node.lineno - 1 : last]]
    found[-1] = found[-1][: node.end_col_offset]
    found[0] = found[0][node.col_offset :]
    return b"".join(found).decode()


def _longest_that_parses(text: str) -> str | None:
    """The run of lines that is Python and has most that are not blank; the first of several; of one line the first.

    Found by trying, so within limits: of a text that is much longer than EvalPlus lets it be, the best that was seen.
    """
    lines = text.split("\n")
    full, size = [0], [0]
    for line in lines:
        full.append(full[-1] + bool(line.strip()))
        size.append(size[-1] + len(line))
    best, found, budget = 0, None, _MOST_READ
    for start in range(len(lines)):
        if budget < 0:
            break
        for end in range(len(lines), start + 1, -1):
            if full[end] - full[start] <= best or budget < 0:
                break
            budget -= size[end] - size[start] + end - start + _EACH
            if _parses("\n".join(lines[start:end])):
                best, found = full[end] - full[start], "\n".join(lines[start:end])
    return found if found is not None or not _parses(lines[0]) else lines[0]


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _defines(node: ast.stmt) -> str | None:
    """The name a statement of the top level gives, if it is of those that are kept; else None."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    if not isinstance(node, _DEFINITIONS) or node.decorator_list:
        return None
    returns = any(isinstance(inner, ast.Return) for inner in ast.walk(node))
    return node.name if returns or isinstance(node, ast.ClassDef) else None


def _reached(name: str, defined: dict[str, ast.stmt]) -> set[str]:
    """`name` and whatever it names, and what that names."""
    reached, waiting = {name}, [name]
    while waiting:
        node = defined.get(waiting.pop())
        new = set(_identifiers(node)) - reached if node is not None else set()
        reached |= new
        waiting += new
    return reached


def _identifiers(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        for field in ("id", "attr", "arg", "name"):
            value = getattr(inner, field, None)
            if isinstance(value, str):
                yield value
