"""The worker: a Celery task that streams an answer of Gemini into a Redis stream.

`celery -A genqueue_lab.textbook.app worker --pool threads --concurrency 20 --queues high,normal,low` runs it, with
TEXTBOOK_REDIS_URL, and GEMINI_API_KEY and GOOGLE_GEMINI_BASE_URL as google-genai reads them.
"""

from __future__ import annotations

from typing import Any, Final

import httpx2
import redis
from celery import Celery, Task
from celery.signals import worker_init
from google import genai
from google.genai import errors, types
from kombu.entity import Queue
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the environment says, in variables that begin with TEXTBOOK_."""

    model_config = SettingsConfigDict(env_prefix="TEXTBOOK_")

    redis_url: str = "redis://127.0.0.1:6379/1"


URL: Final = Settings().redis_url

#: Queues in the order of their priority.
QUEUES: Final = ("high", "normal", "low")

#: Seconds a finished stream is kept, and that Gemini may be silent.
STREAM_TTL: Final = 3600
TIMEOUT: Final = 60

#: Tries of a job in all, and the longest pause between two, in seconds.
TRIES: Final = 8
LONGEST_PAUSE: Final = 60

#: Statuses of client errors that are worth another try.
_TRY_AGAIN: Final = frozenset({408, 429})

app = Celery("textbook", broker=URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_default_queue="normal",
    task_queues=[Queue(name) for name in QUEUES],
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"queue_order_strategy": "priority"},  # the visibility timeout stays at its hour
)

database: redis.Redis = redis.Redis.from_url(URL)


class TryAgain(Exception):
    """Gemini said later."""


def stream_of(job_id: str) -> str:
    """Return the key of a job's events."""
    return f"textbook:events:{job_id}"


@worker_init.connect  # type: ignore[untyped-decorator]
def connect(**_: object) -> None:
    """Make the client of this worker, which all its threads share."""
    app.gemini = genai.Client(http_options=types.HttpOptions(timeout=TIMEOUT * 1000))


def write(job_id: str, kind: str, **fields: str) -> None:
    """Append an event."""
    entry: dict[Any, Any] = {"type": kind, **fields}
    database.xadd(stream_of(job_id), entry)


def end(job_id: str, kind: str, **fields: str) -> None:
    """Append the last event; the stream expires some time after it."""
    write(job_id, kind, **fields)
    database.expire(stream_of(job_id), STREAM_TTL)


class Generation(Task):  # type: ignore[misc] # Celery has no types
    """A task whose failure its readers see."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:  # noqa: ARG002
        """Write the end of a job that is not tried again."""
        end(task_id, "failed", error=str(exc))


@app.task(  # type: ignore[untyped-decorator]
    bind=True,
    base=Generation,
    name="textbook.generate",
    autoretry_for=(TryAgain, errors.ServerError, httpx2.TransportError, redis.ConnectionError),
    max_retries=TRIES - 1,
    retry_backoff=True,
    retry_backoff_max=LONGEST_PAUSE,
    retry_jitter=True,
)
def generate(self: Any, model: str, prompt: str) -> None:
    """Answer a prompt; the job is the task, and whatever an earlier try has shown counts no more."""
    job_id = self.request.id
    write(job_id, "started", attempt=str(self.request.retries + 1))
    try:
        for chunk in app.gemini.models.generate_content_stream(model=model, contents=prompt):
            if chunk.text:
                write(job_id, "delta", text=chunk.text)
    except errors.ClientError as error:
        if error.code in _TRY_AGAIN:
            raise TryAgain(str(error)) from error
        raise
    end(job_id, "completed")
