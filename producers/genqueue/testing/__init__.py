"""A test kit for what is built on genqueue: clients without a server, and a provider that says what a test wants.

    from genqueue.testing import MemoryClient, fail

    client = MemoryClient()
    client.script(["Hello", " world"], fail("SAFETY", "no"))
    assert client.submit("Greet me.", model="any").text() == "Hello world"
    assert client.requests[0].prompt == "Greet me."

Needs the extra `testing`. The clients run the SDK's own operations and scripts, and pass the same conformance suite
as those that ask a server. `genqueue.testing.plugin` brings fixtures for pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genqueue.testing.clients import AsyncMemoryClient, MemoryClient
    from genqueue.testing.recorded import Recorded
    from genqueue.testing.script import DEFAULT_ANSWER, fail, finish, hold, lose, part, retry, thought
    from genqueue.testing.server import MemoryServer

__all__ = [
    "DEFAULT_ANSWER",
    "AsyncMemoryClient",
    "MemoryClient",
    "MemoryServer",
    "Recorded",
    "fail",
    "finish",
    "hold",
    "lose",
    "part",
    "retry",
    "thought",
]

#: Where each name is. They are imported when they are asked for: pytest loads the plugin of this package in every
#: environment that has genqueue, also where the extra is missing.
_MODULES = {
    "AsyncMemoryClient": "clients",
    "MemoryClient": "clients",
    "MemoryServer": "server",
    "Recorded": "recorded",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'script')}"), name)
