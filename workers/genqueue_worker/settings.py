"""Settings of a worker: those of the SDK, and how it works and whom it asks."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from genqueue.lanes import LANES, Lane, parse_lane
from genqueue.settings import Count, Seconds, Settings

#: Brokers whose queue order can hold a worker to its free slots.
BROKER_SCHEMES = frozenset({"redis", "rediss"})


#: Where the Gemini Developer API is.
GEMINI = "https://generativelanguage.googleapis.com"

#: Key sent where none is set: a proxy may bring its own, and any other endpoint says what is missing.
NO_KEY = "no-api-key-set"

#: Leases are renewed every second: a shorter one would be lost to a moment's delay.
Lease = Annotated[float, Field(ge=2, le=3600, allow_inf_nan=False)]


#: Streams one HTTP/2 connection takes: below the 100 that Google's front ends allow, past which requests stall.
STREAMS_PER_CONNECTION = 90


class WorkerSettings(Settings):
    """Settings of one worker process. Durations are seconds.

    Attributes:
        gemini_api_key: key of the Gemini Developer API; `GEMINI_API_KEY` is read too.
        gemini_base_url: where that API is.
        gemini_ca_file: PEM file with a certificate authority to trust besides the system's.
        slots: generations at once.
        lanes: lanes this worker consumes, comma-separated in the environment.
        worker_name: part of the worker's name in Flower, in front of the host's.
        lease_high, lease_other: how long a lost worker's flight waits for another, by lane.
        sweep_interval: between two looks at the ledger.
        sweep_slack: how late a message may be before it counts as lost.
        drain_timeout: how long running generations may go on after SIGTERM.
        read_timeout, provider_connect_timeout: patience with the provider, between two chunks and at connect.
        max_connections: HTTP/2 connections to the provider.
    """

    model_config = SettingsConfigDict(populate_by_name=True)

    gemini_api_key: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("GENQUEUE_GEMINI_API_KEY", "GEMINI_API_KEY"))
    ] = None
    gemini_base_url: str = GEMINI
    gemini_ca_file: Path | None = None
    slots: Annotated[int, Field(ge=1, le=10_000)] = 100
    lanes: str = ",".join(LANES)
    worker_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")] = "worker"
    lease_high: Lease = 4.0
    lease_other: Lease = 15.0
    sweep_interval: Seconds = 0.5
    sweep_slack: Seconds = 5.0
    drain_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 20.0
    read_timeout: Seconds = 60.0
    provider_connect_timeout: Seconds = 10.0
    max_connections: Annotated[Count, Field(validate_default=True)] = 8

    @field_validator("broker_url", "data_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in BROKER_SCHEMES:
            raise ValueError("expected a redis:// or rediss:// URL")
        return value

    @field_validator("gemini_ca_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not (value.is_file() and os.access(value, os.R_OK)):
            raise ValueError("expected a readable PEM file")
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
    def lease_ms(self) -> dict[Lane, int]:
        """Length of a lease by lane, in ms."""
        return {lane: int((self.lease_high if lane == "high" else self.lease_other) * 1000) for lane in LANES}


def process_name(settings: WorkerSettings) -> str:
    """Return a name no other process of the fleet has at this moment."""
    return f"{settings.worker_name}@{socket.gethostname()}:{os.getpid()}"
