"""Settings of a worker: those of the SDK, and how it works and whom it asks."""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import socket
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from genqueue.lanes import LANES, Lane, parse_lane
from genqueue.settings import Count, Seconds, Settings
from genqueue_worker.stalls import Stalls, parse_limits

#: Brokers whose queue order can hold a worker to its free slots.
BROKER_SCHEMES = frozenset({"redis", "rediss"})


#: Containers on the host's network share its name, and each may be process 1 of its own: this tells them apart.
_BIRTHMARK = secrets.token_hex(3)

#: What a webhook secret begins with, and how many bytes it may have: see standardwebhooks.com.
WHSEC = "whsec_"
WHSEC_BYTES = range(24, 65)

#: Where the Gemini Developer API is.
GEMINI = "https://generativelanguage.googleapis.com"

#: Where OpenAI's API is.
OPENAI = "https://api.openai.com/v1"

#: Key sent where none is set: a proxy may bring its own, and any other endpoint says what is missing.
NO_KEY = "no-api-key-set"

#: Leases are renewed every second: a shorter one would be lost to a moment's delay.
Lease = Annotated[float, Field(ge=2, le=3600, allow_inf_nan=False)]


#: Streams one HTTP/2 connection takes: below the 100 that Google's front ends allow, past which requests stall.
STREAMS_PER_CONNECTION = 90


#: A region as providers name theirs.
Region = Annotated[str | None, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

#: Whose HTTP/2 it is.
Transport = Literal["h2", "httpcore"]

#: Seconds, or a list by model and lane.
Silence = Annotated[str, Field(coerce_numbers_to_str=True)]

#: Settings that name a file, and what it is.
_FILES = {
    "gemini_ca_file": "PEM",
    "vertex_ca_file": "PEM",
    "openai_ca_file": "PEM",
    "webhook_ca_file": "PEM",
    "vertex_credentials": "JSON",
    "models_file": "TOML",
}

#: What holds where nothing is set.
_STALLS = Stalls()


class WorkerSettings(Settings):
    """Settings of one worker process. Durations are seconds.

    Attributes:
        gemini_api_key: key of the Gemini Developer API; `GEMINI_API_KEY` is read too.
        gemini_base_url: where that API is.
        gemini_region: region in which that API works on requests, for jobs with a residency; Google's own says none.
        gemini_ca_file: PEM file with a certificate authority to trust besides the system's.
        vertex_project: Google Cloud project by which Vertex AI is asked.
        vertex_location: a region such as europe-west4, in which requests are then worked on, or "global".
        vertex_base_url: where Vertex AI is; Google's own for the location when None.
        vertex_credentials: JSON key file of a service account; Application Default Credentials when None.
        vertex_ca_file: PEM file with a certificate authority to trust there besides the system's.
        openai_api_key: key of OpenAI's API, or of another that speaks as it does; `OPENAI_API_KEY` is read too.
        openai_base_url: where that API is; `OPENAI_BASE_URL` is read too.
        openai_region: region in which that API works on requests, for jobs with a residency.
        openai_ca_file: PEM file with a certificate authority to trust there besides the system's.
        models_file: TOML file that says which provider serves a model, what aliases mean, and fallbacks.
        key_patience: how long jobs wait while the provider refuses the key of every worker that takes their lane;
            then they fail.
        slots: generations at once.
        lanes: lanes this worker consumes, comma-separated in the environment.
        suspects: flights that run at once, each in a process of its own, after workers were lost with them aboard.
        worker_name: part of the worker's name in Flower, in front of the host's.
        lease_high, lease_other: how long a lost worker's flight waits for another, by lane.
        sweep_interval: between two looks at the ledger.
        sweep_slack: how late a message may be before it counts as lost.
        drain_timeout: how long running generations may go on after SIGTERM.
        first_token_timeout: how long the provider may be silent before the first token: seconds, or a list such as
            30,high=10,gemini-2.5-pro=120,gemini-2.5-pro/high=60, of which the most specific counts.
        token_timeout: how long it may be silent between two tokens, spelled likewise.
        read_timeout, provider_connect_timeout: patience with the provider, for all but tokens and at connect.
        total_timeout: longest a request to a provider may take in all, to its answer's end; None for as long as tokens
            come.
        transport: whose HTTP/2 carries requests to providers: our own on h2, or httpcore's, which see less of how
            connections end.
        max_connections: most connections to a provider.
        warm_connections: of these, how many are opened at the start, and are there under load.
        kept_connections: how many stay open without a request; pings keep them alive.
        idle_expiry: after how long without a request the others are closed.
        openai_http: what is spoken to the OpenAI-compatible API: any (HTTP/2 where it is offered, else HTTP/1.1, as
            over plain http) or h2 (HTTP/2 or an error, over plain http too). To Google it is HTTP/2 or an error.
        webhook_secrets: what webhooks are signed with, as whsec_<base64>; several, comma-separated, while they are
            rotated. Without any, webhooks wait.
        webhook_networks: addresses webhooks may go to though they are not public, comma-separated as 10.0.0.0/8; by
            plain http too.
        webhook_ca_file: PEM file with a certificate authority of webhook receivers to trust besides the system's.
        done_broker_url: Celery broker on which completions given as a signature are published; `broker_url` when None.
        result_backend: Celery result backend for what `genqueue.submit` returns; nothing is kept when None.
        gemini_inline_bytes: largest request sent; inline data beyond it is uploaded by the Files API before.
        blob_memory: bytes from the blob store that this process holds at once, fetched and not yet sent.
        submit_redelivery: after how long a request comes again whose worker died before it had admitted it.
        stall_timeout: how long a worker may fetch nothing though its lanes have work and a slot is free, before it
            connects to the broker anew, and as long after that before it ends itself; 0 never.
        stuck_timeout: how long Celery's thread or the asyncio loop may not turn before the worker ends itself; 0 never.
        health_port: port of /livez, /readyz and /metrics; nothing listens without one.
        health_host: address they are at; 0.0.0.0 or :: for every one of this machine.
    """

    model_config = SettingsConfigDict(populate_by_name=True)

    gemini_api_key: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("GENQUEUE_GEMINI_API_KEY", "GEMINI_API_KEY"))
    ] = None
    gemini_base_url: str = GEMINI
    gemini_region: Region = None
    gemini_ca_file: Path | None = None
    vertex_project: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9.:-]{0,99}$")] = None
    vertex_location: Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+[0-9]+)?$")] = "global"
    vertex_base_url: str | None = None
    vertex_credentials: Path | None = None
    vertex_ca_file: Path | None = None
    openai_api_key: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("GENQUEUE_OPENAI_API_KEY", "OPENAI_API_KEY"))
    ] = None
    openai_base_url: Annotated[
        str, Field(validation_alias=AliasChoices("GENQUEUE_OPENAI_BASE_URL", "OPENAI_BASE_URL"))
    ] = OPENAI
    openai_region: Region = None
    openai_ca_file: Path | None = None
    models_file: Path | None = None
    key_patience: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30.0
    slots: Annotated[int, Field(ge=1, le=10_000)] = 100
    lanes: str = ",".join(LANES)
    suspects: Annotated[int, Field(ge=1, le=100)] = 8
    worker_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")] = "worker"
    lease_high: Lease = 4.0
    lease_other: Lease = 15.0
    sweep_interval: Seconds = 0.5
    sweep_slack: Seconds = 5.0
    drain_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 20.0
    first_token_timeout: Silence = f"{_STALLS.first_token.general:g}"
    token_timeout: Silence = f"{_STALLS.token.general:g}"
    read_timeout: Seconds = 60.0
    provider_connect_timeout: Seconds = 10.0
    total_timeout: Seconds | None = None
    transport: Transport = "h2"
    max_connections: Annotated[Count, Field(validate_default=True)] = 10
    warm_connections: Count = 2
    kept_connections: Annotated[int, Field(ge=0, le=1000)] = 5
    idle_expiry: Seconds = 300.0
    openai_http: Literal["any", "h2"] = "any"
    webhook_secrets: SecretStr | None = None
    webhook_networks: str = ""
    webhook_ca_file: Path | None = None
    done_broker_url: Annotated[str | None, Field(repr=False)] = None
    result_backend: SecretStr | None = None
    gemini_inline_bytes: Count = 20_000_000
    blob_memory: Count = 256 * 1024 * 1024
    submit_redelivery: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 60.0
    stall_timeout: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30.0
    stuck_timeout: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 60.0
    health_port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    health_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"

    @field_validator("broker_url", "data_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in BROKER_SCHEMES:
            raise ValueError("expected a redis:// or rediss:// URL")
        return value

    @field_validator("gemini_base_url", "vertex_base_url", "openai_base_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is not None and not _is_endpoint(value):
            raise ValueError(f"expected a URL such as {GEMINI}")
        return value

    @field_validator("webhook_secrets")
    @classmethod
    def _webhook_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_webhook_secrets(value.get_secret_value())
        return value

    @field_validator("webhook_networks")
    @classmethod
    def _webhook_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @field_validator("done_broker_url")
    @classmethod
    def _done_broker(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
            raise ValueError("expected a URL such as redis://host:6379/0")
        return value

    @field_validator(*_FILES)
    @classmethod
    def _readable(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and not (value.is_file() and os.access(value, os.R_OK)):
            raise ValueError(f"expected a readable {_FILES[info.field_name or '']} file")
        return value

    @field_validator("first_token_timeout", "token_timeout")
    @classmethod
    def _silences(cls, value: str) -> str:
        parse_limits(value, 1.0)
        return value

    @field_validator("max_connections")
    @classmethod
    def _room_for_slots(cls, value: int, info: ValidationInfo) -> int:
        slots = info.data.get("slots", 0)
        if slots > value * STREAMS_PER_CONNECTION:
            needed = -(-slots // STREAMS_PER_CONNECTION)
            raise ValueError(f"expected at least {needed} for {slots} slots, {STREAMS_PER_CONNECTION} streams each")
        return value

    @field_validator("lanes")
    @classmethod
    def _known_lanes(cls, value: str) -> str:
        names = [parse_lane(name) for name in value.split(",") if name.strip()]
        if not names:
            raise ValueError("expected lanes such as high,normal,low")
        return ",".join(dict.fromkeys(names))

    @property
    def consumed_lanes(self) -> tuple[Lane, ...]:
        """The lanes this worker consumes."""
        return tuple(parse_lane(name) for name in self.lanes.split(","))

    @property
    def webhook_keys(self) -> tuple[bytes, ...]:
        """The keys webhooks are signed with."""
        return () if self.webhook_secrets is None else parse_webhook_secrets(self.webhook_secrets.get_secret_value())

    @property
    def webhook_addresses(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks webhooks may go to though they are not public."""
        return parse_networks(self.webhook_networks)

    @property
    def stalls(self) -> Stalls:
        """How long the provider may be silent."""
        return Stalls(
            parse_limits(self.first_token_timeout, _STALLS.first_token.general),
            parse_limits(self.token_timeout, _STALLS.token.general),
        )

    @property
    def lease_ms(self) -> dict[Lane, int]:
        """Length of a lease by lane, in ms."""
        return {lane: int((self.lease_high if lane == "high" else self.lease_other) * 1000) for lane in LANES}


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return bool(usable) and not parts.query and not parts.fragment


def parse_webhook_secrets(text: str) -> tuple[bytes, ...]:
    """Return the keys in comma-separated secrets; raises ValueError, without a word of them."""
    keys = []
    for secret in filter(None, (part.strip() for part in text.split(","))):
        try:
            key = base64.b64decode(secret.removeprefix(WHSEC), validate=True)
        except binascii.Error:
            key = b""
        if not (secret.startswith(WHSEC) and WHSEC_BYTES.start <= len(key) < WHSEC_BYTES.stop):
            raise ValueError(f"expected {WHSEC} and the base64 of 24 to 64 bytes, comma-separated")
        keys.append(key)
    return tuple(keys)


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return comma-separated networks; raises ValueError."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"expected networks such as 10.0.0.0/8,fd00::/8 ({error})") from error


def process_name(settings: WorkerSettings) -> str:
    """Return a name no other process of the fleet has at this moment."""
    return f"{settings.worker_name}@{socket.gethostname()}:{_BIRTHMARK}:{os.getpid()}"
