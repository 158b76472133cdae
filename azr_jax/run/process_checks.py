"""What the processes of a run settle before they compute anything: that all want the same run, and see its workdir.

A refusal is everybody's: whoever would go on alone would wait for the others.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from azr_jax.config import flags as configs
from azr_jax.config.schema import Config, ConfigError
from azr_jax.parallel.hosts import Hosts

SEEN_WITHIN_S = 60.0  # shared file systems remember for a while that a file was not there
TOKEN = ".seen_by_all"


@contextmanager
def together(hosts: Hosts) -> Iterator[None]:
    """A ConfigError inside, in any process, is raised in all of them. Inside, nothing may wait for another process."""
    problems: list[str] = []
    try:
        yield
    except ConfigError as error:
        problems = error.problems
    found = hosts.gather(problems)
    if hosts.count > 1 and any(one != found[0] for one in found):
        found = [[f"{name}: {problem}" for problem in one] for name, one in zip(hosts.names, found, strict=True)]
    else:
        found = found[:1]
    if any(found):
        raise ConfigError([problem for one in found for problem in one])


def check_same(hosts: Hosts, config: Config, **flags: str | None) -> None:
    """Refuses processes that were started with different flags, or different versions of JAX, naming the field."""
    mine = {f"--{name}": value for name, value in flags.items()} | {"jax": jax.__version__} | configs.flatten(config)
    all_of_them = hosts.gather(mine)
    problems = [
        f"{field}: {hosts.names[0]} has {all_of_them[0].get(field)}, {hosts.names[index]} has {other.get(field)}; "
        "should be the same in all processes"
        for index, other in enumerate(all_of_them)
        for field in sorted(all_of_them[0].keys() | other.keys())
        if other.get(field) != all_of_them[0].get(field)
    ]
    if problems:
        raise ConfigError(problems)


def check_seen_by_all(hosts: Hosts, workdir: Path) -> None:
    """The first process writes, the others read and restore: all must look at the same folder."""
    if hosts.count == 1:
        return
    file = workdir / TOKEN

    def leave_token() -> str:
        token = secrets.token_hex()
        file.write_text(token)
        return token

    token = hosts.from_first(leave_token)
    seen = hosts.gather(_appears(file, token))
    if hosts.first:
        file.unlink()
    blind = [name for name, sees in zip(hosts.names, seen, strict=True) if not sees]
    if blind:
        raise ConfigError(
            [
                f"--workdir={workdir}: {name} does not see what {hosts.names[0]} wrote there; should be a folder that "
                "all processes share, as on NFS"
                for name in blind
            ]
        )


def _appears(file: Path, token: str) -> bool:
    until = time.monotonic() + SEEN_WITHIN_S
    while time.monotonic() < until:
        if file.exists() and file.read_text() == token:
            return True
        time.sleep(0.1)
    return False
