"""Settings of the SDK, from arguments and from `GENQUEUE_*` environment variables; read once, at the entry point."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.connection import parse_url

from genqueue.errors import SettingsError, shown
from genqueue.payload.seal import parse_keys

if TYPE_CHECKING:
    from genqueue.lanes import Lane

PREFIX = "GENQUEUE_"

#: Options that the data server's URL may carry, besides `ssl_...`: others are settings, or change the replies.
_DATA_OPTIONS = frozenset({"client_name", "db", "health_check_interval", "password", "username"})

#: Options that Kombu takes from a URL, besides `ssl_...`.
_BROKER_OPTIONS = frozenset({"connect_timeout", "heartbeat", "insist", "login_method", "ssl"})

#: Further options of redis-py's URLs, so that a message may name them.
_USUAL_OPTIONS = frozenset(
    {
        "decode_responses",
        "encoding",
        "max_connections",
        "protocol",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "timeout",
    }
)

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
        dead_ttl: how long a failed job keeps its prompt.
        idempotency_ttl: how long an idempotency key gives the same job.
        max_tries: provider calls a flight may fail before it fails.
        max_losses: workers a flight may lose while it runs alone, as it does after two losses beside others.
        memory_high_water: percent of the data server's maxmemory from which on it keeps no answers for equal questions,
            then takes no low, then no normal work; 100 switches that off.
        connect_timeout, command_timeout: patience with the data server; a submit gives up in less than 3 s.
        reconnect_timeout: how long a reader goes on through an outage of the data server.
        payload_keys: keys that seal what is stored, as "id:base64,id2:base64"; the first seals, all open.
        blob_url: where large inline data is kept outside the data server, e.g. "s3://bucket/prefix".
        blob_options: JSON object with options of that store's fsspec file system.
        blob_threshold: inline data of a request beyond this many bytes of base64 goes there.
        max_inline_bytes: most inline data a request may have, in bytes of base64.
    """

    # Values stay out of pydantic's own messages: a URL may hold a password.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    data_url: Annotated[str, Field(repr=False)] = "redis://127.0.0.1:6379/0"
    broker_url: Annotated[str | None, Field(repr=False, validate_default=True)] = None
    key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,40}$")] = "gq"
    partitions: Annotated[int, Field(ge=1, le=16384)] = 64
    deadline_high: Seconds = 600.0
    deadline_normal: Seconds = 3600.0
    deadline_low: Seconds = 86_400.0
    stream_ttl: Seconds = 3600.0
    result_ttl: Seconds = 86_400.0
    cache_ttl: Seconds = 86_400.0
    dead_ttl: Seconds = 1_209_600.0
    idempotency_ttl: Seconds = 86_400.0
    max_tries: Count = 8
    max_losses: Count = 2
    memory_high_water: Annotated[int, Field(ge=1, le=100)] = 85
    connect_timeout: Seconds = 1.0
    command_timeout: Seconds = 1.2
    reconnect_timeout: Seconds = 60.0
    payload_keys: SecretStr | None = None
    blob_url: Annotated[str | None, Field(repr=False)] = None
    blob_options: SecretStr | None = None
    blob_threshold: Count = 1024 * 1024
    max_inline_bytes: Count = 20_000_000

    @field_validator("data_url")
    @classmethod
    def _data_url(cls, value: str) -> str:
        try:
            parse_url(value)
            parts = urlsplit(value)
            usual = parts.scheme == "unix" or re.fullmatch(r"/?|/[0-9]+", parts.path)
        except ValueError:
            usual = None
        if not usual:
            # Not in the words of what refused it: these may be a piece of the password.
            raise ValueError("expected a URL such as redis://host:6379/0, with passwords percent-encoded") from None
        unknown = _unknown_options(value, _DATA_OPTIONS)
        if unknown:
            allowed = ", ".join(sorted(_DATA_OPTIONS))
            raise ValueError(f"expected no option {unknown}: it may have {allowed} and ssl_..., the rest is settings")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
            raise ValueError("expected a URL such as redis://host:6379/0")
        unknown = _unknown_options(value or info.data.get("data_url", ""), _BROKER_OPTIONS)
        if unknown and value is None:
            raise ValueError(f"expected a URL of its own: Kombu does not take {unknown}, which GENQUEUE_DATA_URL has")
        if unknown:
            raise ValueError(f"expected no option {unknown}: Kombu does not take it in a URL")
        return value

    @field_validator("payload_keys")
    @classmethod
    def _payload_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_keys(value.get_secret_value())
        return value

    @field_validator("blob_url")
    @classmethod
    def _blob_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", value):
            raise ValueError("expected a URL such as file:///var/blobs or s3://bucket/prefix")
        return value

    @field_validator("blob_options")
    @classmethod
    def _blob_options(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            options = {} if value is None else json.loads(value.get_secret_value())
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise ValueError("expected a JSON object") from None  # noqa: TRY004 - pydantic takes ValueError alone
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
            raise SettingsError([*problems, *map(_problem, error.errors(include_url=False))]) from None
        if problems:
            raise SettingsError(problems)
        return settings


def _problem(item: Any) -> str:
    name = "_".join(str(step) for step in item["loc"]).upper() or "SETTINGS"
    variable = name if name.startswith(PREFIX) else PREFIX + name
    message = item["msg"].removeprefix("Value error, ")
    return f"{variable}: got {_safe(variable, item['input'])}, {message[0].lower()}{message[1:]}"


def _safe(variable: str, value: object) -> str:
    if variable.endswith(("_KEY", "_KEYS", "_SECRETS", "_BLOB_OPTIONS")):
        return "***"
    return shown(without_credentials(value) if variable.endswith("_URL") and isinstance(value, str) else value)


def _unknown_options(urls: str, known: frozenset[str]) -> str:
    """Return the options of a URL that are not known, in words, "" without any; several URLs are separated by `;`.

    Only usual names are repeated: any other may be a piece of a password that holds a question mark.
    """
    queries = (url.partition("?")[2] for url in urls.split(";"))
    names = {name for query in queries for name, _ in parse_qsl(query, keep_blank_values=True)}
    unknown = {name for name in names if name not in known and not name.startswith("ssl_")}
    usual = unknown & (_DATA_OPTIONS | _USUAL_OPTIONS)
    return ", ".join([*sorted(usual), *(["that is none of Redis's"] if unknown - usual else [])])


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
