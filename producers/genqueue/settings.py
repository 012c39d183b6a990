"""Settings of the SDK, from arguments and from `GENQUEUE_*` environment variables; read once, at the entry point."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.connection import parse_url

from genqueue.errors import SettingsError, shown

if TYPE_CHECKING:
    from genqueue.lanes import Lane

PREFIX = "GENQUEUE_"

#: From a millisecond, the server's smallest unit, to ten years.
Seconds = Annotated[float, Field(ge=0.001, le=315_360_000, allow_inf_nan=False)]
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

    # Values stay out of pydantic's own messages: a URL may hold a password.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    data_url: Annotated[str, Field(repr=False)] = "redis://127.0.0.1:6379/0"
    broker_url: Annotated[str | None, Field(repr=False)] = None
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

    @field_validator("data_url")
    @classmethod
    def _data_url(cls, value: str) -> str:
        try:
            parse_url(value)
        except ValueError:
            # Not from it: its words may be a piece of the password.
            raise ValueError("expected a URL such as redis://host:6379/0, with passwords percent-encoded") from None
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
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
        problems = [f"{name}: no such setting" for name in overrides if name not in cls.model_fields]
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            raise SettingsError([*problems, *map(_problem, error.errors(include_url=False))]) from error
        if problems:
            raise SettingsError(problems)
        return settings


def _problem(item: Any) -> str:
    name = "_".join(str(step) for step in item["loc"]).upper() or "SETTINGS"
    variable = name if name.startswith(PREFIX) else PREFIX + name
    message = item["msg"].removeprefix("Value error, ")
    return f"{variable}: got {_safe(variable, item['input'])}, {message[0].lower()}{message[1:]}"


def _safe(variable: str, value: object) -> str:
    if variable.endswith("_KEY"):
        return "***"
    return shown(without_credentials(value) if variable.endswith("_URL") and isinstance(value, str) else value)


def without_credentials(url: str) -> str:
    """Return a URL, or what was meant to be one, without its user, password and options."""
    return re.sub(r"\?.*", "?***", re.sub(r"^([^/@]*//)?.*@", r"\1***@", url, flags=re.DOTALL), flags=re.DOTALL)


def server_name(url: str) -> str:
    """Return a server's address without its credentials, for messages and logs."""
    if ";" in url:  # a list of brokers
        return without_credentials(url)
    parts = urlsplit(url)
    port = parts.port or 6379
    return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{port}{parts.path}"
