"""What the executor says where it cannot hold programs: what is open, what is missing and why, and what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_FILES = ("read", "write", "memory")  # held by a root of the zygote's own, or by Landlock


def refusal(holes: Sequence[str], layers: Sequence[str], missing: Mapping[str, str]) -> str:
    """One line."""
    reasons = dict.fromkeys(missing.values())
    why = ", ".join(
        f"{', '.join(layer for layer, each in missing.items() if each == reason)} ({reason.lower()})"
        for reason in reasons
    )
    return (
        f"programs could still do: {', '.join(holes)}. In force: {', '.join(layers)}; not: {why or 'nothing more'}. "
        f"{_change(holes, missing)}; or executor.allow_weak=true runs them all the same"
    )


def _change(holes: Sequence[str], missing: Mapping[str, str]) -> str:
    if "seccomp" in missing:
        return "The system call filter is needed: Linux on x86-64 or aarch64, with CONFIG_SECCOMP_FILTER"
    if set(holes) <= set(_FILES) and "landlock" in missing:
        return (
            "Either is enough: Landlock (Linux 5.13 or newer with landlock among lsm=; in a container a seccomp "
            "profile that allows the three landlock_ calls), or user and mount namespaces "
            "(docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined; sysctl "
            "user.max_user_namespaces above 0; on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    return "This is no machine it knows; docs/EXECUTOR.md says what each layer holds"
