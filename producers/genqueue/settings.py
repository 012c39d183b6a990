"""Settings of the SDK, from arguments and from `GENQUEUE_*` environment variables; read once, at the entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from genqueue.errors import SettingsError, shown

if TYPE_CHECKING:
    from genqueue.lanes import Lane

PREFIX = "GENQUEUE_"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """Where the servers are and how long things are kept. Durations are seconds.

    Attributes:
        data_url: the Redis or Valkey server that holds flights and streams.
        broker_url: the Celery broker; `data_url` when not given.
        key_prefix: first part of every key.
        partitions: number of partitions; fixed for the life of a deployment.
        deadline_high, deadline_normal, deadline_low: deadline of a job that names none.
        stream_ttl: how long a stream outlives its terminal event.
        result_ttl: how long a result outlives it.
        cache_ttl: how long an answer may be given again.
        max_tries: provider calls a flight may fail before it fails.
        max_losses: workers a flight may lose before it fails.
        connect_timeout, command_timeout: patience with the data server; a submit gives up in less than 3 s.
        reconnect_timeout: how long a reader goes on through an outage of the data server.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    data_url: str = "redis://127.0.0.1:6379/0"
    broker_url: str | None = None
    key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,40}$")] = "gq"
    partitions: Annotated[int, Field(ge=1, le=16384)] = 64
    deadline_high: Seconds = 600.0
    deadline_normal: Seconds = 3600.0
    deadline_low: Seconds = 86_400.0
    stream_ttl: Seconds = 3600.0
    result_ttl: Seconds = 86_400.0
    cache_ttl: Seconds = 86_400.0
    max_tries: Count = 4
    max_losses: Count = 5
    connect_timeout: Seconds = 1.0
    command_timeout: Seconds = 1.2
    reconnect_timeout: Seconds = 60.0

    @field_validator("data_url", "broker_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not urlsplit(value).scheme:
            raise ValueError("expected a URL such as redis://host:6379/0")
        return value

    @property
    def broker(self) -> str:
        """URL of the Celery broker."""
        return self.broker_url or self.data_url

    def deadline(self, lane: Lane) -> float:
        """Return the default deadline of a lane, in seconds."""
        return {"high": self.deadline_high, "normal": self.deadline_normal, "low": self.deadline_low}[lane]

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Return settings from the environment and overrides; raises SettingsError listing every problem."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise SettingsError([_problem(item) for item in error.errors(include_url=False)]) from error


def _problem(item: Any) -> str:
    name = "_".join(str(step) for step in item["loc"]).upper() or "SETTINGS"
    variable = name if name.startswith(PREFIX) else PREFIX + name
    return f"{variable}: got {shown(item['input'])}, {item['msg'][0].lower()}{item['msg'][1:]}"


def server_name(url: str) -> str:
    """Return a server's address without its credentials, for messages and logs."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path}"
