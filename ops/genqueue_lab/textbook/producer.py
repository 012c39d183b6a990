"""The caller's side: submits a prompt, and reads the events of its answer."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from genqueue_lab.textbook.app import generate, stream_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    from kombu.connection import Connection

MODEL: Final = "gemini-2.5-flash"

#: Types of event behind which nothing comes.
ENDS: Final = frozenset({"completed", "failed"})

#: Seconds one read waits for further events: below redis-py's own time-out.
BLOCK: Final = 2.0


def submit(prompt: str, lane: str = "normal", connection: Connection | None = None) -> str:
    """Queue a prompt, over the app's own connection if there is no other, and return the job's id."""
    job_id = str(uuid.uuid4())
    generate.apply_async((MODEL, prompt), task_id=job_id, queue=lane, connection=connection)
    return job_id


def follow(database: redis.Redis, job_id: str) -> Iterator[dict[str, str]]:
    """Yield the events of a job up to its end."""
    last = "0"
    while True:
        answer: Any = database.xread({stream_of(job_id): last}, block=int(BLOCK * 1000))
        for entry_id, fields in answer[0][1] if answer else ():
            last = entry_id
            event = {name.decode(): value.decode() for name, value in fields.items()}
            yield event
            if event["type"] in ENDS:
                return


def text_of(events: list[dict[str, str]]) -> str:
    """Return the answer: the deltas since the last start."""
    pieces: list[str] = []
    for event in events:
        if event["type"] == "started":
            pieces.clear()
        pieces += [event["text"]] if event["type"] == "delta" else []
    return "".join(pieces)
