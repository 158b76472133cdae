"""What a program may import, and what modules of the library need so that they work in the jail, put right when a
program first imports them.

One function stands in the place of `__import__` in every child, whatever it was asked to do: a program must not find
out by it whether it is validated or judged.

`asyncio`: its loop waits with `epoll` and wakes itself through a pair of sockets; no program may have either. `poll` is
as good, and in a process of one thread nobody else could wake it.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import sys
import types
from collections.abc import Callable, Mapping, Sequence

from azr_jax.executor import clock

PROGRAM = "program"  # the name of the module that a program is
_banned: set[str] = set()
_real = builtins.__import__


def ban(names: Sequence[str]) -> None:
    """A program cannot import these itself, also where no import statement shows it."""
    _banned.clear()
    _banned.update(names)
    builtins.__import__ = __import__


def __import__(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> types.ModuleType:
    if globals is not None and globals.get("__name__") == PROGRAM and name.partition(".")[0] in _banned:
        raise ImportError(f"banned import: {name}")
    return _real(name, globals, locals, fromlist, level)


def _without_sockets(module: types.ModuleType) -> None:
    def nothing(self: object) -> None: ...

    for name in ("_make_self_pipe", "_close_self_pipe", "_write_to_self"):
        setattr(module.BaseSelectorEventLoop, name, nothing)


def _with_poll(module: types.ModuleType) -> None:
    selector = vars(module)["DefaultSelector"] = module.PollSelector
    real = selector.select

    def select(self: object, timeout: float | None = None) -> object:
        events = real(self, timeout)
        if not events and timeout is not None:
            clock.move(timeout)  # it stands still else, and who waits looks at it
        return events

    selector.select = select


def _with_waits_that_move(module: types.ModuleType) -> None:
    """In a process of one thread a wait with a limit lasts as long as that; then the clock has moved by as much."""
    real = module.Condition.wait

    def wait(self: object, timeout: float | None = None) -> bool:
        woken = real(self, timeout)
        if not woken and timeout is not None:
            clock.move(timeout)
        return woken

    module.Condition.wait = wait


_MENDED: dict[str, Callable[[types.ModuleType], None]] = {
    "asyncio.selector_events": _without_sockets,
    "selectors": _with_poll,
    "threading": _with_waits_that_move,
}


class _Mender:
    """Finds the modules above as Python does, and mends each once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        mend = _MENDED.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if mend is not None else None
        if spec is None or spec.loader is None or mend is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            load(module)
            mend(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def mend() -> None:
    for name in _MENDED.keys() & sys.modules.keys():
        _MENDED[name](sys.modules[name])
    sys.meta_path.insert(0, _Mender())  # type: ignore[arg-type]
