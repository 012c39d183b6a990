"""OpenAI's chat completions beside Gemini's API: the same pace, faults, quotas, key and statistics."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from genqueue_lab.emulator.delivery import send_bytes, send_json
from genqueue_lab.emulator.errors import GoogleError
from genqueue_lab.emulator.openai_delivery import Completion, choices_of, stream, whole
from genqueue_lab.emulator.openai_errors import (
    ChatError,
    failure,
    invalid,
    missing_key,
    quota_exceeded,
    region_forbidden,
    unknown_url,
    wrong_key,
)
from genqueue_lab.emulator.openai_models import describe, listed
from genqueue_lab.emulator.openai_requests import parse_chat
from genqueue_lab.emulator.strikes import Struck, StruckExchange

if TYPE_CHECKING:
    from genqueue_lab.emulator.catalog import Model
    from genqueue_lab.emulator.exchange import Exchange, Headers, Request
    from genqueue_lab.emulator.faults import Standing
    from genqueue_lab.emulator.options import Pace
    from genqueue_lab.emulator.quotas import Meters
    from genqueue_lab.emulator.requests import GenerateRequest
    from genqueue_lab.emulator.stats import Stats

_CHAT = "/v1/chat/completions"
_MODELS = re.compile(r"/v1/models(?:/(?P<model>[^/:]+))?")
_BEARER = "Bearer "


class Shared(Protocol):
    """What both APIs have in common."""

    meters: Meters
    stats: Stats

    def accepts(self, key: str) -> bool:
        """Whether a key is in force."""

    def fault_for(self, exchange: Exchange, asked: GenerateRequest, model: Model) -> Standing | None:
        """Return the fault of a request; raises GoogleError for one that is none."""

    def pace_for(self, exchange: Exchange) -> Pace:
        """Return the pace of a request; raises GoogleError for one that is none."""


class Chat:
    """The API."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def serves(self, request: Request) -> bool:
        """Say whether a request is this API's; Gemini has a list of models at the same place, with other keys."""
        if request.path.startswith("/v1/chat/"):
            return True
        return bool(_MODELS.fullmatch(request.path)) and request.headers.get("authorization", "").startswith(_BEARER)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        try:
            await self._route(exchange)
        except ChatError as error:
            await _refuse(exchange, error)
        except GoogleError as error:  # of what both APIs share: a header field of the emulator's own
            await _refuse(exchange, invalid(error.message))

    async def _route(self, exchange: Exchange) -> None:
        request = exchange.request
        key = request.headers.get("authorization", "").removeprefix(_BEARER).strip()
        if not key:
            raise missing_key()
        if not self._shared.accepts(key):
            raise wrong_key(key)
        models = _MODELS.fullmatch(request.path)
        if request.method == "POST" and request.path == _CHAT:
            await self._complete(exchange, key)
        elif request.method == "GET" and models:
            name = models["model"]
            await send_json(exchange, 200, describe(name) if name else listed(), _headers(exchange))
        else:
            raise unknown_url(request.method, request.path)

    async def _complete(self, exchange: Exchange, key: str) -> None:
        shared = self._shared
        pace = shared.pace_for(exchange)
        chat = parse_chat(exchange.request)
        exchange.record.model = chat.model.id
        shared.stats.received(exchange.request.body)
        shared.stats.called(exchange.record, chat.asked.fingerprint, chat.asked.prompt)
        if (excess := shared.meters.admit(key, chat.model.id)) is not None:
            exchange.record.fault = "quota"
            raise quota_exceeded(excess, chat.model.id)
        if (standing := shared.fault_for(exchange, chat.asked, chat.model)) is not None:
            exchange = StruckChat(exchange, standing, streamed=chat.streamed)
            if (refusal := await exchange.refusal()) is not None:
                raise refusal
        deliver = stream if chat.streamed else whole
        with contextlib.suppress(Struck):
            await deliver(exchange, Completion(chat, choices_of(chat, pace)), pace, _headers(exchange, pace.ttft))


class StruckChat(StruckExchange):
    """An exchange of which a rule gets hold, in OpenAI's words."""

    def __init__(self, exchange: Exchange, standing: Standing, *, streamed: bool) -> None:
        super().__init__(exchange, standing)
        self._streamed = streamed

    def _failure(self) -> Exception:
        rule = self._rule
        return failure(rule.status or 503, rule.retry_info, rule.retry_after)

    def _forbidden(self) -> Exception:
        return region_forbidden()

    def _is_streamed(self) -> bool:
        return self._streamed

    def _last_words(self, *, first: bool) -> bytes:
        del first
        body = msgspec.json.encode(failure(self._rule.status or 429, None, None).body())
        return b"data: %s\n\n" % body if self._streamed else body


async def _refuse(exchange: Exchange, error: ChatError) -> None:
    fields = [*_headers(exchange), *error.headers]
    if error.page is not None:
        await send_bytes(exchange, error.status, error.page, [("content-type", "text/html"), *fields])
    else:
        await send_json(exchange, error.status, error.body(), fields)


def _headers(exchange: Exchange, wait: float = 0.0) -> Headers:
    """Return the fields OpenAI sends with every answer; `wait` is what the answer will still be held back."""
    spent = time.monotonic() - exchange.request.received + wait
    return [
        ("openai-organization", "org-emulator"),
        ("openai-processing-ms", f"{spent * 1000:.0f}"),
        ("openai-version", "2020-10-01"),
        ("x-request-id", f"req_{secrets.token_hex(16)}"),
    ]
