"""genqueue: queue LLM generation on priority lanes and follow the answers as they are written.

>>> from genqueue import Client
>>> with Client() as client:
...     job = client.submit("Explain HTTP/3 multiplexing.", model="gemini-3-pro-preview", lane="high")
...     for event in job.tail():
...         print(event.text or "", end="")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genqueue.aio import AsyncClient, AsyncJob
    from genqueue.body import sse
    from genqueue.client import Client, Job
    from genqueue.completed import as_completed
    from genqueue.errors import GenqueueError, InvalidRequest, JobFailed, StreamGone, SubmitUncertain, WaitTimeout
    from genqueue.events import Event
    from genqueue.result import Result
    from genqueue.settings import Settings

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Event",
    "GenqueueError",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "Result",
    "Settings",
    "StreamGone",
    "SubmitUncertain",
    "WaitTimeout",
    "as_completed",
    "sse",
]

#: Where each name is. They are imported when they are asked for: Celery and pydantic take half a second, in which the
#: command has to mind Ctrl-C, and which a test run with our plugin that uses neither need not wait.
_MODULES = {
    "AsyncClient": "aio",
    "AsyncJob": "aio",
    "Client": "client",
    "Event": "events",
    "Job": "client",
    "Result": "result",
    "Settings": "settings",
    "as_completed": "completed",
    "sse": "body",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
