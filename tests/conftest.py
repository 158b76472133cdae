"""What pytest's workers tell each other goes over a wire of UTF-8; our tests print what is no Unicode.

And a shell that starts pytest in the background has Ctrl-C ignored, which whatever a test starts would inherit.
"""

import signal
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Any:
    """A report of a worker, with lone surrogates of captured output and messages written as escapes."""
    return _escaped((yield))


def _escaped(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {_escaped(key): _escaped(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(_escaped(item) for item in data)
    return data
