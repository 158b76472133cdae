"""The public seed-buffer format: JSON lines {snippet, input, output, ...} or {snippet, inputs, outputs, message, ...}.

A row of a kind that the format does not know has its name as `kind` beside these; who does not play it reads the rest.

Reading gives proposals, not tasks: published files hold outputs that are truncated or depend on the hash seed, so
every row goes through the executor again. Files ending in .gz are compressed. Writing gives the same fields back.
"""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from azr_jax.tasks.programs import parse
from azr_jax.tasks.types import InductionTask, Kind, Proposal, Task


class SeedFileError(ValueError):
    """A line of a seed file is not a row of the format; the message names the file, the line and what is wrong."""


def read_seed_file(path: Path, kinds: Iterable[Kind] = ()) -> Iterator[Proposal]:
    """One proposal a row: of the kind it names, if that is one of `kinds`.

    Else kind deduction for a single input (it serves every kind of triplet), or induction.
    """
    own = {str(kind): kind for kind in kinds}
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _proposal(line, f"{path}: line {number}", own)


def write_seed_file(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes the rows, all or nothing, and returns how many."""
    lines = [json.dumps(row) + "\n" for row in rows]
    content = "".join(lines).encode()
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    temporary.replace(path)
    return len(lines)


def _proposal(line: str, where: str, own: Mapping[str, Kind]) -> Proposal:
    try:
        read = json.loads(line)
    except ValueError as error:
        raise SeedFileError(f"{where}: is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise SeedFileError(
            f"{where}: is a {type(read).__name__}, should be an object with snippet and input or inputs"
        )
    row = cast("dict[str, Any]", read)
    program = _with_imports(_text(row, "snippet", where), row.get("imports") or [])
    kind = own.get(str(row.get("kind")))
    if "inputs" not in row:
        return Proposal(kind or Kind.DEDUCTION, program, (_text(row, "input", where),))
    inputs: list[str] = row["inputs"]
    if type(inputs) is not list or not inputs or not all(type(text) is str for text in inputs):
        raise SeedFileError(f"{where}: inputs should be a list of texts, not empty")
    return Proposal(kind or Kind.INDUCTION, program, tuple(inputs), _text(row, "message", where))


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise SeedFileError(f"{where}: {name} is {value!r:.60}, should be a text")
    return value


def _with_imports(program: str, imports: list[str]) -> str:
    """Rows list the imports beside the program; most programs still hold them, some do not."""
    missing = [statement for statement in imports if statement not in program]
    return "\n".join([*missing, program])


def public_row(task: Task) -> dict[str, Any]:
    row: dict[str, Any] = {"snippet": task.program}
    if isinstance(task, InductionTask):
        row |= {"inputs": task.inputs, "outputs": task.outputs, "message": task.message}
        return row | {"imports": _imports(task.program)}
    row |= {"input": task.input, "output": task.output, "imports": _imports(task.program)}
    return row | {"original_snippet": task.program, "composite_functions": []}


def _imports(program: str) -> list[str]:
    tree = parse(program)
    return [ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))] if tree else []
