"""What a provider is: a request and a route in, chunks out."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from genqueue_worker.providers.errors import ProviderError


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing said: `text` of a `delta` or a `thought`, or `json` of a `part`, as the provider spelled it.

    `about` says what the JSON of a part is: a whole "part" of the turn, the fields that belong to the "text" piece
    immediately before it, what is said about the whole "candidate", or about a blocked "prompt".
    """

    kind: Literal["delta", "thought", "part"]
    text: str = ""
    json: str = ""
    about: Literal["part", "text", "candidate", "prompt"] = "part"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Hold what one message of a stream said.

    `usage` and `finish_reason` are cumulative: the last one given counts. `block_reason` ends a stream that
    was refused before its first word.
    """

    entries: tuple[Piece, ...] = ()
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    model_version: str | None = None
    block_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """Hold what to generate: contents and config in Gemini's REST spelling, as the SDK writes them.

    `residency` holds the regions it may be sent to; empty for any.
    """

    model: str
    contents: list[dict[str, Any]]
    system_instruction: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    residency: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """Hold one way to a provider.

    `ca_file` is a PEM file trusted besides the system's roots; `region` is where the provider works on what is sent
    there, None when nobody knows.
    """

    name: str
    base_url: str
    api_key: str = field(repr=False)
    ca_file: str | None = None
    region: str | None = None

    def admit(self, request: ProviderRequest) -> None:
        """Raise ProviderError `no_route` for a request that may not be sent here."""
        if request.residency and self.region not in request.residency:
            where = f"is in {self.region}" if self.region else "names no region"
            message = f"the job may run in {', '.join(request.residency)} only, and this worker's route {where}"
            raise ProviderError("no_route", message, retryable=True)


class Provider(Protocol):
    """Turn a request into chunks over a route."""

    def stream(self, request: ProviderRequest, route: Route) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they arrive; whoever stops early must `aclose` it, which cuts the provider's stream.

        Raises:
            ProviderError: the provider refused, broke off, or ended without saying why.
        """
        ...

    async def upload(self, data: bytes, mime_type: str, route: Route) -> str:
        """Upload what is too large for a request and return the URI it can be named by; raises ProviderError."""
        ...

    async def discard(self, uri: str, route: Route) -> None:
        """Delete an upload; raises ProviderError."""
        ...


class Prover(Protocol):
    """Tell whether a route's key is accepted."""

    async def prove(self, route: Route) -> None:
        """Make a request that is surely right; raises ProviderError."""
        ...


_request_decoder = msgspec.json.Decoder(ProviderRequest)


def decode_request(raw: bytes | str) -> ProviderRequest:
    """Read the contract's request JSON; fields it does not know are left out.

    Raises:
        ProviderError: `invalid_request`, the JSON is not one.
    """
    try:
        return _request_decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise ProviderError("invalid_request", f"The stored request cannot be read: {error}") from error
