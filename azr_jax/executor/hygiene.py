"""What a proposed program must look like before it is run: syntax, an entry point, imports and names.

The jail is the wall; this list only keeps out programs that cannot be good tasks (clocks, processes, the
interpreter's insides). It runs in a jailed child, because Python's parser is itself something model text can upset.
"""

from __future__ import annotations

import ast
import contextlib
import re
import sys
import types
from collections.abc import Generator, Iterable, Iterator

from azr_jax.executor.values import MAX_INT_BITS

# The paper's list: modules, and names inside modules.
BANNED = (
    "logging", "random", "multiprocessing", "pebble", "subprocess", "threading", "datetime", "time", "hashlib",
    "hmac", "bcrypt", "os.sys", "os.path", "sys.exit", "os.environ", "calendar",
)  # fmt: skip
# Ours, whatever the list says: ways to a module or into the interpreter that are not an import statement.
_HIDDEN_IMPORTS = frozenset({
    "importlib", "imp", "_imp", "_frozen_importlib", "_frozen_importlib_external", "pkgutil", "runpy", "zipimport",
    "ctypes", "_ctypes", "gc", "interpreters", "_interpreters", "_interpchannels", "_interpqueues",
    "_xxsubinterpreters", "_xxinterpchannels", "_testcapi", "_testinternalcapi",
})  # fmt: skip
_HIDDEN_NAMES = frozenset({"__import__", "__builtins__", "__loader__", "__spec__"})
_HIDDEN_ATTRIBUTES = frozenset({
    "__subclasses__", "__globals__", "__builtins__", "__code__", "__bases__", "__base__", "__mro__", "__loader__",
    "__spec__", "__closure__", "__getattribute__", "__reduce__", "__reduce_ex__", "__import__", "__self__", "f_back",
    "f_globals", "f_locals", "f_builtins", "f_code", "gi_frame", "cr_frame", "ag_frame", "tb_frame", "_getframe",
    "modules", "_current_frames", "tb_next", "__traceback__", "cell_contents", "getclosurevars", "getattr_static",
    "currentframe", "meta_path", "path_hooks", "getmembers", "getmembers_static", "getargvalues", "getframeinfo",
    "getinnerframes", "getouterframes", "getgeneratorlocals", "getcoroutinelocals",
})  # fmt: skip
# Written in C, they ask the system what time it is, or draw by it.
_OWN_CLOCKS = frozenset({
    "sqlite3", "_sqlite3", "_uuid", "_random", "_lsprof", "cProfile", "_tracemalloc", "tracemalloc",
})  # fmt: skip
# A name that no text shows reaches whatever the lists above and below keep out.
_BY_TEXT = frozenset({"vars", "globals", "locals"})
_BY_TEXT_ATTRIBUTES = frozenset({"__dict__", "attrgetter", "methodcaller", "bltns"})  # the last: builtins, in enum
# Of a proposal: what makes functions, modules or code of what no text shows.
_BY_TEXT_IMPORTS = frozenset({"builtins", "pickle", "_pickle", "marshal", "shelve", "code", "codeop"})
_MATCHED_WHOLE = frozenset({
    "bool", "bytearray", "bytes", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple",
})  # fmt: skip
_ATTRIBUTE_NAMERS = frozenset({"getattr", "setattr", "delattr"})


class Unfit(ValueError):
    """The program cannot be a task: a short phrase that can be counted, and a detail for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail[:200]


@contextlib.contextmanager
def _reading() -> Generator[None]:
    """Every way in which Python's parser fails on odd text, named the same."""
    try:
        yield
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise Unfit("syntax error", f"{type(error).__name__}: {error}") from None


def parse(text: str, mode: str = "exec") -> ast.Module | ast.Expression:
    with _reading():
        return ast.parse(text, mode=mode)  # type: ignore[return-value]


def compiled(text: str) -> types.CodeType:
    with _reading():
        return compile(text, "program", "exec", dont_inherit=True)


def normalise(text: str, banned: Iterable[str]) -> tuple[str, ast.Module]:
    """The program with its entry point named `f`, and its tree. Unfit where it has none or breaks the rules above."""
    tree = parse(text)
    check(tree, banned)
    assert isinstance(tree, ast.Module)
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    if any(n.name == "f" for n in functions) or _assigns_f(tree):
        return text, tree
    if len(functions) != 1:
        raise Unfit("no function f")
    return _rename(text, tree, functions[0].name), tree


def check(tree: ast.AST, banned: Iterable[str]) -> None:
    """Unfit at the first banned import or name."""
    listed = frozenset(banned)
    dotted = frozenset(b for b in listed if "." in b)
    called = {a.asname or a.name: a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    own = {name.partition(".")[0] for name, real in called.items() if real.partition(".")[0] in sys.stdlib_module_names}
    called_by_name = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            taken = {alias.name for alias in node.names}
            if hidden := taken & (_HIDDEN_ATTRIBUTES | (_BY_TEXT_ATTRIBUTES if listed else frozenset())):
                raise Unfit("banned name", min(hidden))
        for module in _imported(node):
            top, last = module.partition(".")[0], module.rpartition(".")[2]
            if listed and last in listed and top in sys.stdlib_module_names:
                raise Unfit("banned import", module)  # a module of a module, as in `from statistics import random`
            if top in listed or module in listed or {top, last} & _HIDDEN_IMPORTS:
                raise Unfit("banned import", module)
            if listed and top in _OWN_CLOCKS | _BY_TEXT_IMPORTS:
                raise Unfit("banned import", module)
        if isinstance(node, ast.MatchClass):
            _check_pattern(node, listed=bool(listed))
        if isinstance(node, ast.Attribute):
            owner = called.get(node.value.id, node.value.id) if isinstance(node.value, ast.Name) else ""
            of_library = node.attr in _HIDDEN_IMPORTS and _root(node) in own  # such as `timeit.gc`
            if node.attr in _HIDDEN_ATTRIBUTES or of_library or f"{owner}.{node.attr}" in dotted:
                raise Unfit("banned name", f"{owner}.{node.attr}")
            if listed and (node.attr in _BY_TEXT_ATTRIBUTES or (node.attr in listed and _root(node) in own)):
                raise Unfit("banned name", node.attr)  # a module of a module, such as `email.utils.time`
        if isinstance(node, ast.Name) and (node.id in _HIDDEN_NAMES or (listed and node.id in _BY_TEXT)):
            raise Unfit("banned name", node.id)
        if listed and isinstance(node, ast.Name) and node.id in _ATTRIBUTE_NAMERS and id(node) not in called_by_name:
            raise Unfit("banned name", f"{node.id} under another name")
        if listed and isinstance(node, ast.Call) and _names_by_text(node):
            raise Unfit("banned name", "an attribute whose name is no plain text")
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value.bit_length() > MAX_INT_BITS:
            raise Unfit("number too large")  # Python reads it, in base 16 for one, and will not write it


def _check_pattern(node: ast.MatchClass, *, listed: bool) -> None:
    """`case C(modules=m)` reads an attribute, and `case C(m)` one that only `C.__match_args__` tells the name of."""
    if hidden := set(node.kwd_attrs) & (_HIDDEN_ATTRIBUTES | (_BY_TEXT_ATTRIBUTES if listed else frozenset())):
        raise Unfit("banned name", min(hidden))
    if listed and node.patterns and not (isinstance(node.cls, ast.Name) and node.cls.id in _MATCHED_WHOLE):
        raise Unfit("banned name", "an attribute that a pattern takes by its place")


def _root(node: ast.Attribute) -> str:
    """The name that a chain of attributes begins with."""
    owner = node.value
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    return owner.id if isinstance(owner, ast.Name) else ""


def _names_by_text(call: ast.Call) -> bool:
    """`getattr(x, "ti" + "me")`: the lists can be held against a name that stands there, not against a reckoned one."""
    if not (isinstance(call.func, ast.Name) and call.func.id in _ATTRIBUTE_NAMERS):
        return False
    given = call.args[1] if len(call.args) > 1 else None
    name = given.value if isinstance(given, ast.Constant) else None
    return not isinstance(name, str) or name.startswith("_") or name in _HIDDEN_ATTRIBUTES


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)


def _assigns_f(tree: ast.Module) -> bool:
    """`f = lambda ...`, `f = other`, or a class or import named f: any way a module comes to hold a name f."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == "f" for t in targets):
                return True
        if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef) and node.name == "f":
            return True
        if isinstance(node, ast.Import | ast.ImportFrom) and any((a.asname or a.name) == "f" for a in node.names):
            return True
    return False


def _rename(text: str, tree: ast.Module, name: str) -> str:
    """The function called `f` wherever it is named. Where `f` already means something: an alias at the end."""
    words = set(re.findall(r"\w+", text))
    strings = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    bound_elsewhere = any(
        (isinstance(n, ast.arg) and n.arg == name)
        or (isinstance(n, ast.keyword | ast.alias) and name in (getattr(n, "arg", None), getattr(n, "asname", None)))
        or (isinstance(n, ast.Global | ast.Nonlocal) and name in n.names)
        or (isinstance(n, ast.JoinedStr))
        for n in ast.walk(tree)
    )
    if "f" in words or bound_elsewhere or any(name in s for s in strings):
        return f"{text.rstrip()}\n\nf = {name}\n"
    lines = text.encode().split(b"\n")  # column offsets of `ast` count bytes
    places = [(n.lineno, n.col_offset) for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name]
    for n in ast.walk(tree):
        if isinstance(n, ast.FunctionDef) and n.name == name:
            head = lines[n.lineno - 1]
            found = re.compile(rb"def[ \t]+" + re.escape(name.encode()) + rb"\b").search(head, n.col_offset)
            if found is None:  # the name stands on a later line, or is spelled with other characters
                return f"{text.rstrip()}\n\nf = {name}\n"
            places.append((n.lineno, found.end() - len(name.encode())))
    for line, column in sorted(places, reverse=True):
        row = lines[line - 1]
        lines[line - 1] = row[:column] + b"f" + row[column + len(name.encode()) :]
    renamed = b"\n".join(lines).decode()
    with contextlib.suppress(RecursionError):  # a tree too deep to be looked at again
        if ast.dump(parse(renamed)) == ast.dump(_Renamer(name).visit(ast.parse(text))):
            return renamed
    return f"{text.rstrip()}\n\nf = {name}\n"


class _Renamer(ast.NodeTransformer):
    """The rename on the tree, against which the rename on the text is checked."""

    def __init__(self, name: str) -> None:
        self._name = name

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = "f" if node.id == self._name else node.id
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.name = "f" if node.name == self._name else node.name
        self.generic_visit(node)
        return node
