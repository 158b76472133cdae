"""What can go wrong with a bucket, sorted by what helps: wait and ask again, or tell the user in one line.

The names of the client's and the transport's exceptions stay in this file.
"""

from __future__ import annotations

import contextlib
from typing import NoReturn

BUSY = (408, 429)  # and whatever is the server's own fault, from 500 up
# How TensorStore, which reads and writes arrays by itself, begins what it says of the bucket, and of no array.
NOT_PERMITTED = ("PERMISSION_DENIED", "UNAUTHENTICATED")
NO_ANSWER = ("ABORTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE")


class StorageError(Exception):
    """One line for a user. `passing`: the same command may well work later."""

    def __init__(self, message: str, *, passing: bool = False):
        super().__init__(message)
        self.passing = passing


class Changed(StorageError):
    """An object is not, or no longer, in the state that a write asked for."""


def passes(error: Exception) -> bool:
    """Whether to ask again: the server was busy, or the connection broke."""
    import requests
    import urllib3
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import TransportError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    if isinstance(error, InvalidResponse):
        return busy(error.response.status_code)
    if isinstance(error, GoogleAPICallError):
        return busy(int(error.code or 0))
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, ConnectionError)
    return isinstance(error, (*broken, urllib3.exceptions.HTTPError, TransportError, DataCorruption))


def status(error: Exception) -> int:
    """Of the server's answer; 0 where there was none."""
    response = getattr(error, "response", None)
    found = getattr(error, "code", None) or getattr(response, "status_code", None) or 0
    return int(found) if isinstance(found, int) else 0


def tell(url: str, doing: str, error: Exception) -> NoReturn:
    """Raises what a user can do something with."""
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, InvalidOperation, RefreshError

    number, said = status(error), _first_line(error)
    if number == 412:
        raise Changed(f"{url}: {doing}: another process has changed it") from error
    if number == 401 or isinstance(error, (RefreshError, InvalidOperation)):
        why = f"the credentials have expired or are not accepted ({said}); renew them as with `gcloud auth "
        why += "application-default login`, and start again"
    elif isinstance(error, DefaultCredentialsError):
        why = "no credentials for Google Cloud are here; on a VM give it a service account with scope cloud-platform, "
        why += "elsewhere run `gcloud auth application-default login`"
    elif number == 403:
        why = _not_permitted(said)
    elif number == 404:
        why = "there is no such bucket; give the name of one that exists"
    elif isinstance(error, GoogleAuthError):
        why = f"cannot log in: {said}"
    else:
        why = said
    raise StorageError(f"{url}: {doing}: {why}") from error


def give_up(url: str, doing: str, error: Exception, tries: int, seconds: float) -> NoReturn:
    raise StorageError(
        f"{url}: {doing}: {_first_line(error)}; tried {tries} times in {seconds:.0f} s, start again when the bucket "
        "answers",
        passing=True,
    ) from error


def tell_of_arrays(url: str, doing: str, error: BaseException) -> None:
    """Raises what stopped Orbax if that is the bucket; nothing of what is wrong with an array, or in the program.

    Of several processes the one that failed waits for the others before Orbax says anything, and then says that.
    """
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, StorageError):
            raise reason
        said = _first_line(reason).partition(" [")[0]
        status = said.partition(":")[0] if isinstance(reason, ValueError) else ""  # which is what TensorStore raises
        if status in NOT_PERMITTED:
            raise StorageError(f"{url}: {doing}: {_not_permitted(said)}") from error
        if status in NO_ANSWER:
            raise StorageError(f"{url}: {doing}: {said}; start again when the bucket answers", passing=True) from error
        reason = reason.__cause__ or reason.__context__


def busy(number: int) -> bool:
    """Of an answer's status."""
    return number in BUSY or number >= 500


def _not_permitted(said: str) -> str:
    return (
        f"not permitted ({said}); the account of this machine needs the roles Storage Object User and Storage Legacy "
        "Bucket Reader on the bucket"
    )


def _first_line(error: BaseException) -> str:
    """What the server said, or the library."""
    said = str(error)
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        said = error.response.json()["error"]["message"]  # type: ignore[attr-defined]
    line = next((line.strip() for line in said.splitlines() if line.strip()), "") or type(error).__name__
    return line[:300]
