"""What a provider is: a request and a route in, chunks out."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from genqueue_worker.providers.connection_options import Versions
from genqueue_worker.providers.connections import PoolCounters
from genqueue_worker.providers.errors import ProviderError

#: Who answers, and how it is asked.
Kind = Literal["gemini", "vertex", "openai"]


class Piece(msgspec.Struct, frozen=True, gc=False):
    """One thing said: `text` of a `delta` or a `thought`, or `json` of a `part`, as the provider spelled it.

    `about` says what the JSON of a part is: a whole "part" of the turn, the fields that belong to the "text" piece
    immediately before it, what is said about the whole "candidate", or about a blocked "prompt".
    """

    kind: Literal["delta", "thought", "part"]
    text: str = ""
    json: str = ""
    about: Literal["part", "text", "candidate", "prompt"] = "part"


class Chunk(msgspec.Struct, frozen=True):
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
    there, None when nobody knows. `project`, `location` and `credentials_file` are Vertex AI's: a location is a region
    or "global", the file a JSON key, None for Application Default Credentials; its `api_key` is empty. `versions`
    says what of HTTP may be spoken: see `ConnectionOptions`.
    """

    name: str
    base_url: str
    api_key: str = field(repr=False)
    ca_file: str | None = None
    region: str | None = None
    kind: Kind = "gemini"
    project: str | None = None
    location: str | None = None
    credentials_file: str | None = None
    versions: Versions = "h2"

    def admits(self, request: ProviderRequest) -> bool:
        """Return whether a request may be sent here."""
        return not request.residency or self.region in request.residency

    def admit(self, request: ProviderRequest) -> None:
        """Raise ProviderError `no_route` for a request that may not be sent here."""
        if not self.admits(request):
            where = f"is in {self.region}" if self.region else "names no region"
            allowed = ", ".join(request.residency)
            message = f"the job may run in {allowed} only, and this worker's route {self.name} {where}"
            raise ProviderError("no_route", message, retryable=True)


class Source(Protocol):
    """Turn a request into chunks over a route."""

    def stream(self, request: ProviderRequest, route: Route) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they arrive; whoever stops early must `aclose` it, which cuts the provider's stream.

        Raises:
            ProviderError: the provider refused, broke off, or ended without saying why; `unsupported` for what it
                cannot do, of which nothing was sent.
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


class Provider(Source, Prover, Protocol):
    """Answer over connections of its own: a pool for each route, from its first use until all are closed.

    Belongs to one event loop. Nothing is tried again: who calls decides by the error's fields.
    """

    async def warm(self, route: Route) -> bool:
        """Open the route's first connections; say whether all answered well. A failure is logged, not raised."""
        ...

    def counters(self, route: Route) -> PoolCounters:
        """Return how many connections and streams the route has."""
        ...

    async def aclose(self) -> None:
        """Close all connections; streams on them end with an error."""
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
