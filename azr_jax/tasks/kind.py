"""What a kind of task is: a name, and everything that this kind alone knows. Each is one class in one file.

Those of the project stand in azr_jax/kinds and have short names. One of a user's own is named by where it stands,
`module:Class`, and nothing else has to know it (docs/EXTENDING.md). All are loaded by name when they are first asked
for: the rooms below azr_jax/kinds know a kind by this class.
"""

from __future__ import annotations

import importlib
import sys
from abc import ABCMeta, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self, TypeAlias, cast

Own: TypeAlias = Any  # of a kind's own: what it asks with, its task, its verdict; this file knows none of them

BUILT_IN = {  # in the order of their numbers
    "deduction": "azr_jax.kinds.deduction:Deduction",
    "abduction": "azr_jax.kinds.abduction:Abduction",
    "induction": "azr_jax.kinds.induction:Induction",
    "error": "azr_jax.kinds.error:Error",
}
MOST = 16  # kinds of one run: a request id has four bits for them


class UnknownKind(ValueError):
    """A kind that cannot be had by this name; the message is one line that says why."""


class KindFailed(ValueError):
    """What a kind was asked it failed at, or answered with something else; the message is one line that says so."""


def asked(kind: Kind, what: str, *given: object, gives: type, or_none: bool = False) -> Any:
    """What the kind's method answers. Raises KindFailed: a mistake in it is the loss of the one task it is about."""
    try:
        answer = getattr(kind, what)(*given)
    except Exception as error:
        raise KindFailed(f"{kind}: {what} failed: {_told(error)}") from error
    if not (isinstance(answer, gives) or (or_none and answer is None)):
        raise KindFailed(f"{kind}: {what} gave {type(answer).__name__}, should be {gives.__name__}")
    return answer


class _ByName(ABCMeta):
    """`Kind.DEDUCTION`, `list(Kind)`: those with short names."""

    def __getattr__(cls, name: str) -> Kind:
        if name.isupper() and name.lower() in BUILT_IN:
            return _built_in(name.lower())
        raise AttributeError(name)

    def __iter__(cls) -> Iterator[Kind]:
        return map(_built_in, BUILT_IN)

    def __len__(cls) -> int:
        return len(BUILT_IN)

    def __contains__(cls, name: object) -> bool:
        return name in BUILT_IN


class Kind(str, metaclass=_ByName):
    """As a text it is its name: in metrics, records, checkpoints and file names.

    kinds/base.py has defaults for most of what is asked here.
    """

    DEDUCTION: ClassVar[Kind]  # program, input -> output
    ABDUCTION: ClassVar[Kind]  # program, output -> an input
    INDUCTION: ClassVar[Kind]  # input/output pairs, message -> program
    ERROR: ClassVar[Kind]  # program, input -> exception name, or NoError

    name: ClassVar[str]
    task_type: ClassVar[type]  # Triplet, InductionTask, or a dataclass derived from one of them
    about_a_program: ClassVar[bool] = False  # proposers are given a program of a buffer, and write none of their own
    answer_block: ClassVar[str]  # what a solver's block is called: python, input, output or message
    may_raise: ClassVar[bool] = False  # an exception is a result like another
    runs_again: ClassVar[bool] = False  # each answer is an input that the task's own program is run on
    seeded_with: ClassVar[str] = ""  # the kind whose seeds it shares, where it plays the same tasks
    number: int  # its place in request ids, and the first id of its buffer

    needs: ClassVar[tuple[str, ...]] = ("name",)  # what a class has to say beside its abstract methods

    def __new__(cls, name: str = "") -> Self:  # a copy is made with its name
        return str.__new__(cls, cls.name)

    # --- what is asked, and how it is read (tasks/prompts.py, tasks/parsing.py)
    @abstractmethod
    def propose_prompt(self, material: Own) -> Own:
        """prompts.Material -> prompts.Prompt"""

    @abstractmethod
    def solve_prompt(self, task: Own, style: str, examples: str) -> Own:
        """A prompts.Prompt."""

    @abstractmethod
    def render_proposal(self, proposal: Own) -> str:
        """The blocks a proposer is asked for; `read_proposal` reads them back."""

    @abstractmethod
    def read_proposal(self, blocks: Sequence[Any], program: str) -> Own:
        """parsing.Blocks -> types.Proposal or FormatError. `program` is the one the proposer was given, if it was."""

    @abstractmethod
    def too_many(self, blocks: Sequence[Any]) -> bool:
        """Whether these are more blocks than a proposal has."""

    # --- what the executor is asked: generators that yield its requests (executor/cases.py) and return the word on it.
    # They run in its thread: what takes long, or runs what a model wrote, is a request.
    @abstractmethod
    def validate(self, job: Own, settings: Own) -> Own:
        """A Validation of job.proposal; `job` is a jobs.Validate, `settings` are ExecutorSettings."""

    @abstractmethod
    def verify(self, job: Own, settings: Own) -> Own:
        """A Verdict on job.answer to job.task; `job` is a jobs.Verify."""

    # --- its buffer
    @abstractmethod
    def first(self) -> Own:
        """A Proposal, or None: what is in its buffer before anybody has proposed anything."""

    @abstractmethod
    def mark(self, task: Own, copies: str) -> bytes:
        """Equal for tasks that are the same; `copies` says what may differ (tasks/sameness.py)."""

    @abstractmethod
    def written(self, task: Own) -> Counter[str]:
        """What of the task its proposer wrote, in parts that it can share with others: what novelty is told by."""

    @abstractmethod
    def answers(self, task: Own) -> tuple[str, ...]:
        """What has to be found, as text: rare answers are diverse."""

    @abstractmethod
    def row(self, task: Own) -> dict[str, Any] | None:
        """The task in a seed file (tasks/seedfile.py); None where the format has no place for it."""


def find(spec: str) -> Kind:
    """The kind of this name or place. Raises UnknownKind."""
    if isinstance(spec, Kind):
        return spec
    if spec in BUILT_IN:
        return _built_in(spec)
    module, colon, name = spec.partition(":")
    if not (colon and name.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        raise UnknownKind(f"should be {', '.join(BUILT_IN)}, or one of your own as module:Class")
    return _made(_class_in(_imported(module), name, spec))


def named(specs: Iterable[str]) -> tuple[Kind, ...]:
    """The kinds of a run, with their numbers: a user's own come after those with short names. Raises UnknownKind."""
    kinds, number = list[Kind](), len(BUILT_IN)
    for spec in specs:
        try:
            kind = find(spec)
        except UnknownKind as error:
            raise UnknownKind(f"{spec}: {error}") from error
        if spec not in BUILT_IN:
            kind.number, number = number, number + 1
        if kind in kinds:
            raise UnknownKind(f"{spec}: is called {kind} like another one of them; each should have a name of its own")
        kinds.append(kind)
    if number > MOST:
        raise UnknownKind(f"{number - len(BUILT_IN)} of your own; at most {MOST - len(BUILT_IN)} can be told apart")
    return tuple(kinds)


def seeds_of(kind: Kind) -> str:
    return kind.seeded_with or kind


def seeded_together(kinds: Iterable[Kind]) -> list[tuple[Kind, ...]]:
    """Those that share their seeds, in the order in which they find them."""
    groups: dict[str, tuple[Kind, ...]] = {}
    for kind in sorted(kinds, key=lambda kind: (kind.about_a_program, kind.number)):
        groups[seeds_of(kind)] = (*groups.get(seeds_of(kind), ()), kind)
    return list(groups.values())


@cache
def _built_in(name: str) -> Kind:
    module, _, cls = BUILT_IN[name].partition(":")
    kind = getattr(importlib.import_module(module), cls)()
    kind.number = list(BUILT_IN).index(name)
    return kind


def _imported(module: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:  # a console script does not look there
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise UnknownKind(f"there is no module {error.name} in the working directory or on PYTHONPATH") from error
        raise UnknownKind(f"importing {module} failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise UnknownKind(f"importing {module} failed: {_told(error)}") from error


def _class_in(module: ModuleType, name: str, spec: str) -> type[Kind]:
    cls = getattr(module, name, None)
    if cls is None:
        raise UnknownKind(f"{module.__name__} has no {name}")
    if not (isinstance(cls, type) and issubclass(cls, Kind)):
        raise UnknownKind(f"{name} is no kind; should be a class derived from azr_jax.kinds.base.BaseKind")
    if missing := sorted({*cls.__abstractmethods__, *(one for one in cls.needs if not hasattr(cls, one))}):
        raise UnknownKind(f"{name} lacks {', '.join(missing)}")
    own = cast("object", cls.name)  # which a user may have made anything
    if not (isinstance(own, str) and own.isidentifier() and own.islower()):
        raise UnknownKind(f"{name}.name={own!r}: should be one word in small letters, for metrics and files")
    if own in BUILT_IN:
        raise UnknownKind(f"{name}.name={own!r}: is that of one of azr_jax; should be a name of its own")
    return cls


def _made(cls: type[Kind]) -> Kind:
    try:
        kind = cls()
    except Exception as error:
        raise UnknownKind(f"{cls.__name__}() failed: {_told(error)}") from error
    kind.number = len(BUILT_IN)
    return kind


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
