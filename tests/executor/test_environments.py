"""What the executor says on machines that lack this or that: as docs/EXECUTOR.md has it, word for word."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from environments import ENVIRONMENTS, said_in

from azr_jax.executor.refusal import refusal

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = "pid, mount, uts, ipc, net, root, "
REST = "capabilities, no_new_privs, landlock, undumpable, rlimits, seccomp; open to programs: nothing"
SAYS = {
    "root": f"executor: layers user, {NAMESPACES}{REST}",
    "user": f"executor: layers user, {NAMESPACES}{REST}",
    "root_without_user_namespaces": f"executor: layers {NAMESPACES}{REST}",
    "user_without_user_namespaces": f"executor: layers {REST}",
    "docker": f"executor: layers {REST}",
    "no_pidfd": f"executor: layers user, {NAMESPACES}{REST}",
    "no_landlock": f"executor: layers user, {NAMESPACES}{REST.replace('landlock, ', '')}",
    "old_docker": "WeakIsolation: programs could still do: read. In force: capabilities, no_new_privs, undumpable, "
    "rlimits, seccomp; not: user, pid, mount, uts, ipc, net, root, landlock (operation not permitted). Either is "
    "enough: Landlock (Linux 5.13 or newer with landlock among lsm=; in a container a seccomp profile that allows the "
    "three landlock_ calls), or user and mount namespaces (docker run --security-opt seccomp=unconfined --security-opt "
    "apparmor=unconfined; sysctl user.max_user_namespaces above 0; on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0); or executor.allow_weak=true runs them all the same",
}
FAST = ("docker", "no_pidfd", "old_docker")


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in ENVIRONMENTS], ids=list(ENVIRONMENTS)
)
def test_it_starts_or_says_what_to_change(name):
    if os.getuid() or platform.machine() != "x86_64":
        pytest.skip("environments are made by root, of the calls of x86-64")
    try:
        said = said_in(name)
    except OSError as error:
        pytest.skip(f"cannot be made here: {error}")
    assert said["says"] == SAYS[name]
    if name != "old_docker":
        assert (said["runs"], said["hole"]) == ("2", "raised")


def test_the_guide_has_every_word_of_it():
    guide = " ".join((ROOT / "docs/EXECUTOR.md").read_text().split())
    assert [name for name in ENVIRONMENTS if SAYS[name] not in guide] == []


def test_a_machine_without_the_call_filter_is_told_so():
    said = refusal(["socket", "fork"], ["landlock"], {"seccomp": "the call filter does not hold"})
    assert "Linux on x86-64 or aarch64, with CONFIG_SECCOMP_FILTER" in said and "\n" not in said
    assert "docs/EXECUTOR.md" in refusal(["exec"], ["seccomp"], {})
