"""The JSON files of a model folder, read so that whatever is wrong with them is one line: file, field, value, what
would be right.

`read_json` gives a file's object; `Fields` asks it for one field after the other by name and kind.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class UnsupportedModel(ValueError):
    """A model folder that is damaged, or describes what the Transformer would compute wrongly, or not at all."""


LARGEST = 2**31 - 1  # of a whole number: counts and token ids are int32 on the device
SHOWN = 100  # characters of a wrong value that an error repeats
LONGEST = 1_000  # characters of an error: files of strangers hold names of any length


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    text = read_text(path)
    try:
        content = json.loads(text, object_pairs_hook=without_contradiction)
    except RecursionError:
        raise UnsupportedModel(f"{path} is not JSON that can be read: it is nested too deeply") from None
    except Contradiction as error:
        raise UnsupportedModel(f"{path}: {error}") from None
    except ValueError as error:  # beside what is no JSON, a number of too many digits
        raise UnsupportedModel(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UnsupportedModel(f"{path} holds {shown(content)}: should be an object, {{...}}")
    return content


def read_text(path: Path) -> str:
    """Of a file that must be one: a pipe would be waited for without end."""
    try:
        check_is_file(path)
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsupportedModel(
            f"{path} is not UTF-8 text: byte {error.object[error.start]:#04x} at {error.start}"
        ) from None
    except OSError as error:
        raise UnsupportedModel(f"{path} cannot be read: {error.strerror or error}") from None


def check_is_file(path: Path) -> None:
    """Raises OSError where it is a folder, a pipe, or a link that leads nowhere or to itself."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is a folder or a device, and should be a file", str(path))


class Contradiction(ValueError):
    """A JSON object says two things of one name."""


def without_contradiction(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads, which by itself takes the last of several values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for name, value in pairs:
            if found[name] != value:
                raise Contradiction(f"{shown(name)} is given twice, as {shown(value)} and {shown(found[name])}")
    return found


def one_line(text: object) -> str:
    """For people: names and values in files of strangers may hold line ends, and what moves a terminal's cursor."""
    line = " ".join(str(text).split())
    clean = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
    return clean if len(clean) <= LONGEST else f"{clean[:LONGEST]}..."


def shown(value: object) -> str:
    """A value for an error: on one line, and not all of a long one."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


class Fields:
    """The fields of one object, which is `within` a field of another or (empty) stands alone."""

    def __init__(self, values: Mapping[str, Any], within: str = ""):
        self.values, self._prefix = values, f"{within}." if within else ""

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def refuse(self, name: str, right: str) -> UnsupportedModel:
        """The error to raise about a field's value."""
        return UnsupportedModel(f"{self._prefix}{name}={shown(self.values.get(name))}: should be {right}")

    def need(self, name: str) -> None:
        if self.values.get(name) is None:
            raise UnsupportedModel(f"{self._prefix}{name} is missing")

    def whole(self, name: str, default: int | None = None, *, least: int = 1, most: int = LARGEST) -> int:
        """A whole number. Without a default the field must be there; null is no number."""
        if default is not None and name not in self.values:
            return default
        self.need(name)
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            limits = f"from {least} to {most}" if most < LARGEST else f"of at least {least}"
            raise self.refuse(name, f"a whole number {limits}")
        return value

    def number(self, name: str, default: float | None = None, *, least: float = 0.0) -> float:
        """A finite number above `least`."""
        if default is not None and name not in self.values:
            return default
        self.need(name)
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least < value < math.inf:
            raise self.refuse(name, f"a number above {least:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def texts(self, name: str) -> list[str] | None:
        """A list of strings; None where there is none."""
        value = self.values.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise self.refuse(name, "a list of strings")
        return value

    def table(self, name: str) -> Fields | None:
        """The fields of an object; None where it is absent, null or empty."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.refuse(name, "an object, {...}, or null")
        return Fields(value, f"{self._prefix}{name}") if value else None

    def one_of(self, name: str, allowed: Sequence[Any]) -> None:
        """Refuses a value that would change the numbers. The first allowed value is what absence stands for."""
        if name in self.values and not any(
            type(self.values[name]) is type(right) and self.values[name] == right for right in allowed
        ):
            given = f"{self._prefix}{name}={shown(self.values[name])}"
            raise UnsupportedModel(f"{given} is not supported: it should be {allowed[0]!r} or absent")
