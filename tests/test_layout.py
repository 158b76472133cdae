"""The house rules that a machine can check: who may import whom, how large things get, and that the README is true."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import rooms

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "azr_jax").rglob("*.py"))
ARRAYS = {"jax", "jaxlib", "flax", "optax", "orbax", "numpy"}
# Room -> libraries it must not import. What it may know of other rooms is said by the floors of benchmarks/rooms.py,
# and by STRANGERS where these lie below.
FORBIDDEN = dict.fromkeys(("tasks", "executor", "kinds", "config", "storage"), ARRAYS) | {"monitor": {"jax"}}
STRANGERS = {
    "tasks": {"monitor"},
    "executor": {"monitor", "parallel"},
    "kinds": {"monitor", "parallel", "models"},
    "parallel": {"tasks"},
    "models": {"tasks", "executor"},
    "rollout": {"tasks", "executor", "kinds", "learner", "config", "monitor"},
    "learner": {"tasks", "executor", "kinds", "rollout", "config", "monitor"},
    "selfplay": {"evals"},
}
NEVER = {"tensorflow", "torch", "ray", "vllm"}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def breaks(names: set[str], forbidden: set[str]) -> set[str]:
    return {name for name in names for ban in forbidden if name == ban or name.startswith(ban + ".")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_what_they_may(path):
    room = path.relative_to(ROOT / "azr_jax").parts[0]
    strangers = {f"azr_jax.{other}" for other in STRANGERS.get(room, ())}
    assert not breaks(imports(path), FORBIDDEN.get(room, set()) | strangers | NEVER)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a file opens with what it does"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 70, f"{node.name} has {length} lines"


def test_no_room_knows_one_above_it_and_none_stand_in_a_circle():
    found = rooms.arrows(ROOT)
    assert not {f"{one} -> {to}": found[one, to] for one, to in rooms.arrows_up(found)}
    assert not rooms.circles(set(found))


def test_nobody_knows_run_but_the_commands():
    assert {one for one, to in rooms.arrows(ROOT) if to == "run"} <= {"commands", "dryrun"}


def test_every_room_has_a_floor():
    folders = {path.parent.name for path in (ROOT / "azr_jax").glob("*/__init__.py")}
    assert folders == {room for floor in rooms.FLOORS for room in floor} - {"commands"}


def test_files_import_each_other_in_no_circle():
    graph = {}
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[module] = {name for name in imports(path) if name.startswith("azr_jax")}
    graph = {module: {name for name in names if name in graph and name != module} for module, names in graph.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in graph[module]:
                visit(name, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_no_class_name_stands_twice():
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
    found = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert {name for name, times in found.items() if times > 1} == set()


def test_the_algorithm_stays_on_one_page_and_its_room_small():
    room = sorted((ROOT / "azr_jax/selfplay").glob("*.py"))
    lines = {path.name: len(path.read_text().splitlines()) for path in room}
    assert len(room) <= 10 and sum(lines.values()) <= 1300 and lines["iteration.py"] <= 150, lines


def test_every_path_and_module_the_readme_names_exists():
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:configs|docs|tests|benchmarks|tpu)/[\w/]+\.(?:py|md|svg|png|html|sh)", readme))
    missing = {path for path in named if not (ROOT / path).exists()}
    modules = set(re.findall(r"python3? -m (azr_jax[\w.]*)", readme))
    for module in modules:
        path = ROOT / module.replace(".", "/")
        if not path.with_suffix(".py").exists() and not (path / "__main__.py").exists():
            missing.add(module)
    assert not missing


def test_nothing_tracked_is_large_or_called_utils():
    for path in SOURCES + sorted((ROOT / "tests").rglob("*")):
        if path.is_file():
            assert path.stat().st_size <= 2_000_000, path
            assert path.stem not in {"utils", "util", "helpers", "misc"}, path


def test_the_readme_is_short_and_the_architecture_page_names_only_what_is_there():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    page, missing = (ROOT / "docs/ARCHITECTURE.md").read_text(), []
    for path, name in re.findall(r"`([a-z]\w*/[\w/]+\.py)(?::(\w+))?`", page):
        file = next((file for file in (ROOT / "azr_jax" / path, ROOT / path) if file.exists()), None)
        if file is None or (name and not re.search(rf"^ *(async def|def|class) {name}\b", file.read_text(), re.M)):
            missing.append(f"{path}:{name}")
    assert not missing
