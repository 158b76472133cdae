"""Machines on which the executor has to start or to say why not, each made here out of this one.

    python tests/executor/environments.py [NAME ...]

Prints what the executor says in each, word for word. A process gives up what the machine is to lack (its user, its
capabilities, system calls by a filter) and starts an executor. Nothing of the machine itself is changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NAMESPACES = ("unshare", "setns", "mount", "umount2", "pivot_root")
_LANDLOCK = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
_NUMBERS = {  # on x86-64
    "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "pidfd_open": 434, "keyctl": 250,
    "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "clone3": 435, "landlock_create_ruleset": 444,
    "landlock_add_rule": 445, "landlock_restrict_self": 446,
}  # fmt: skip
# Of what Docker leaves to root in a container; the rest is dropped.
_DOCKER_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
_NEWUSER = 0x10000000


@dataclass(frozen=True)
class Environment:
    means: str
    user: int = 0  # who the executor runs as
    keeps: tuple[int, ...] | None = None  # capabilities, None: all
    refused: tuple[str, ...] = ()  # system calls
    no_user_namespaces: bool = False  # unshare with that flag is refused
    error: int = 1  # EPERM


ENVIRONMENTS = {
    "root": Environment("root on a machine of its own"),
    "user": Environment("an ordinary user, user namespaces allowed", user=65534, keeps=()),
    "root_without_user_namespaces": Environment("root, user namespaces forbidden", no_user_namespaces=True),
    "user_without_user_namespaces": Environment(
        "an ordinary user, user namespaces forbidden", user=65534, keeps=(), no_user_namespaces=True
    ),
    "docker": Environment(
        "a container with Docker's default profile",
        keeps=_DOCKER_CAPABILITIES,
        refused=(*_NAMESPACES, "keyctl", "bpf", "perf_event_open", "userfaultfd", "clone3"),
    ),
    "old_docker": Environment(
        "the same with a profile from before Landlock and pidfd",
        keeps=_DOCKER_CAPABILITIES,
        refused=(*_NAMESPACES, *_LANDLOCK, "pidfd_open", "keyctl", "bpf", "perf_event_open", "userfaultfd"),
    ),
    "no_pidfd": Environment("root, pidfd_open refused", refused=("pidfd_open",)),
    "no_landlock": Environment("root, a kernel without Landlock", refused=_LANDLOCK, error=38),
}

_START = """
import json, sys
from azr_jax.executor.pool import Executor, ExecutorSettings, WeakIsolation
from azr_jax.executor.jobs import Run
said = {"says": "", "runs": "", "hole": ""}
try:
    with Executor(ExecutorSettings(workers=1, timeout_s=5)) as one:
        said["says"] = one.layers
        said["runs"] = one.submit(Run("def f(x):\\n    return x + 1", ("1",))).result()[0].value
        said["hole"] = one.submit(Run("def f():\\n    return open('/etc/hostname').read()", ("",))).result()[0].reason
except RuntimeError as error:
    said["says"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


def python_for(user: int) -> str | None:
    """An interpreter that the user may read; None if there is none new enough."""
    if user == 0:
        return sys.executable
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        test = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        with contextlib.suppress(OSError):  # not there, or not to be read
            if subprocess.run(test, user=user, group=user, extra_groups=[], capture_output=True).returncode == 0:
                return path
    return None


def said_in(name: str) -> dict[str, str]:
    """What the executor says there, or raises if the environment cannot be made here."""
    environment = ENVIRONMENTS[name]
    python = python_for(environment.user)
    if python is None:
        raise OSError("no interpreter that another user may read")
    command = [sys.executable, __file__, "--enter", name, python]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    if told.returncode:
        raise OSError(told.stderr[-500:])
    return json.loads(told.stdout)


# ---------------------------------------------------------------------------------------------- inside
def enter(name: str, python: str) -> None:
    """Becomes the environment, then the interpreter that starts an executor."""
    environment = ENVIRONMENTS[name]
    libc = ctypes.CDLL(None, use_errno=True)
    if environment.keeps is not None:
        for number in set(range(41)) - set(environment.keeps):
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
    if environment.user:
        os.setgroups([])
        os.setgid(environment.user)
        os.setuid(environment.user)
    elif environment.keeps is not None:
        kept = sum(1 << number for number in environment.keeps)
        low, high = kept & 0xFFFFFFFF, kept >> 32
        header = struct.pack("=Ii", 0x20080522, 0)
        assert libc.syscall(126, header, struct.pack("=6I", low, low, 0, high, high, 0)) == 0
    code = list(_filter(environment))
    if code:
        data = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in code))
        program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(data)))
        assert libc.prctl(38, 1, 0, 0, 0) == 0 or os.getuid() == 0
        assert libc.prctl(22, 2, program, 0, 0) == 0
    os.environ["PYTHONPATH"] = str(ROOT)
    os.execv(python, [python, "-B", "-c", _START])


def _filter(environment: Environment):
    """Refuses the calls and, if asked, new user namespaces; allows the rest."""
    refuse, allow = (0x06, 0, 0, 0x00050000 | environment.error), (0x06, 0, 0, 0x7FFF0000)
    if not environment.refused and not environment.no_user_namespaces:
        return
    yield (0x20, 0, 0, 0)
    for call in environment.refused:
        yield (0x15, 0, 1, _NUMBERS[call])
        yield (0x06, 0, 0, 0x00050026) if call == "clone3" else refuse  # ENOSYS, so that threads go the older way
    if environment.no_user_namespaces:
        yield (0x15, 0, 3, _NUMBERS["unshare"])
        yield (0x20, 0, 0, 16)  # its flags
        yield (0x45, 0, 1, _NEWUSER)
        yield refuse
    yield allow


if __name__ == "__main__":
    if sys.argv[1:2] == ["--enter"]:
        enter(*sys.argv[2:])
    for each in sys.argv[1:] or ENVIRONMENTS:
        print(f"{each} ({ENVIRONMENTS[each].means})")
        try:
            print("   ", said_in(each))
        except OSError as error:
            print("   ", "cannot be made here:", error)
