"""Where the installed packages lie that the user lets programs import. Looks only at their files; imports none."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


class NotInstalled(ValueError):
    """A package that programs were to have is not there."""


def paths_of(packages: Sequence[str]) -> list[str]:
    """The files and folders of the packages and of all they need. Raises NotInstalled."""
    found: set[str] = set()
    known: set[str] = set()
    for name in packages:
        if not name.isidentifier() or importlib.util.find_spec(name) is None:
            raise NotInstalled(
                f"executor.packages: {name} is not installed beside {sys.executable}; install it there, or leave it out"
            )
        waiting = [_distribution(name)]
        if waiting == [None]:  # not installed by a package manager, say as an editable checkout
            found |= _of_spec(name)
        while waiting:
            one = waiting.pop()
            if one is not None and one.name not in known:
                known.add(one.name)
                found |= _of_distribution(one)
                waiting += [_distribution(each) for each in _needs(one)]
    return sorted(found)


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        pass
    for other in importlib.metadata.packages_distributions().get(name, ()):  # sklearn is in scikit-learn
        return importlib.metadata.distribution(other)
    return None


def _needs(one: importlib.metadata.Distribution) -> Iterable[str]:
    """Names without those of extras; one that a marker leaves out is not installed and is passed over."""
    for line in one.requires or ():
        name = re.match(r"[\w.-]+", line)
        if name and not re.search(r"\bextra\s*==", line):
            yield name.group()


def _of_distribution(one: importlib.metadata.Distribution) -> set[str]:
    tops = {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")}
    return {str(Path(str(one.locate_file(top))).resolve()) for top in tops if not top.endswith(".pth")}


def _of_spec(name: str) -> set[str]:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return set()
    places = list(spec.submodule_search_locations or ()) or ([spec.origin] if spec.origin else [])
    return {str(Path(place).resolve()) for place in places if Path(place).exists()}
