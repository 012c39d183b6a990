"""genqueue: queue LLM generation on priority lanes and follow the answers as they are written.

>>> from genqueue import Client
>>> with Client() as client:
...     job = client.submit("Explain HTTP/3 multiplexing.", model="gemini-3-pro-preview", lane="high")
...     for event in job.tail():
...         print(event.text or "", end="")
"""

from genqueue.aio import AsyncClient, AsyncJob
from genqueue.client import Client, Job
from genqueue.errors import GenqueueError, InvalidRequest, JobError, JobFailed, StreamGone, WaitTimeout
from genqueue.events import Event
from genqueue.result import Result, Status
from genqueue.settings import Settings

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Event",
    "GenqueueError",
    "InvalidRequest",
    "Job",
    "JobError",
    "JobFailed",
    "Result",
    "Settings",
    "Status",
    "StreamGone",
    "WaitTimeout",
]
