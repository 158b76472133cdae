"""The rooms of azr_jax and who imports whom: a drawing, the arrows that run up, and the rooms that stand in circles.

    python benchmarks/rooms.py [--root=<another checkout>]

A room is a folder of azr_jax; its files at the top are `commands`. Rooms have floors; an arrow to a higher one, or to
another room of the same floor that points back, is one to be taken away. One drawing (mermaid), one table, then one
line of JSON.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

FLOORS = (
    ("monitor", "tasks", "storage"),
    ("parallel", "executor"),
    ("models", "kinds"),
    ("rollout", "learner", "config"),
    ("selfplay",),
    ("evals",),
    ("nano",),
    ("run",),
    ("dryrun", "commands"),
)
CONFIG = {"config", "fields", "presets"}  # the latter two were files of their own


def room_of(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    known = {room for floor in FLOORS for room in floor} - {"config", "commands"}
    return "config" if part in CONFIG else part if part in known else "commands"


def arrows_up(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    return sorted((one, to) for one, to in pairs if floor[one] < floor[to])


def arrows(root: Path) -> dict[tuple[str, str], list[str]]:
    """(from, to) -> the imports, file by file."""
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((root / "azr_jax").rglob("*.py"))
    }
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            for name in names & modules.keys() - {"azr_jax"}:
                pair = room_of(module), room_of(name)
                if pair[0] != pair[1]:
                    found[pair].append(f"{path.relative_to(root)} imports {name}")
    return found


def circles(pairs: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Rooms that reach each other."""
    reach = {room: {to for one, to in pairs if one == room} for room in {room for pair in pairs for room in pair}}
    for _ in reach:
        for room in reach:
            reach[room] |= set().union(*(reach[to] for to in reach[room]))
    return sorted((a, b) for a in reach for b in reach[a] if a < b and a in reach[b])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    root = parser.parse_args().root.resolve()
    found = arrows(root)
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    up = {pair: found[pair] for pair in arrows_up(found)}
    print("```mermaid\nflowchart TD")
    for one, to in sorted(found):
        print(f"    {one} {'==>|up|' if (one, to) in up else '-->'} {to}")
    print("```\n")
    files = Counter(room_of(".".join(path.relative_to(root).parts)) for path in (root / "azr_jax").rglob("*.py"))
    lines: Counter[str] = Counter()
    for path in (root / "azr_jax").rglob("*.py"):
        lines[room_of(".".join(path.relative_to(root).parts))] += len(path.read_text().splitlines())
    print("| floor | room | files | lines | imports |\n|---|---|---|---|---|")
    for room in sorted(files, key=lambda room: (floor[room], room)):
        to = ", ".join(sorted(other for one, other in found if one == room))
        print(f"| {floor[room]} | {room} | {files[room]} | {lines[room]} | {to} |")
    for pair, why in up.items():
        print(f"up: {pair[0]} -> {pair[1]}: {'; '.join(sorted(set(why)))}")
    both = circles(set(found))
    print(f"in circles: {', '.join(f'{a} and {b}' for a, b in both) or 'none'}")
    print(json.dumps({"up": [list(pair) for pair in up], "circles": both, "files": files, "lines": lines}))


if __name__ == "__main__":
    main()
