"""Gemini, as the Developer API and as Vertex AI: finds the method, checks the key and the request, and answers."""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genqueue_lab.emulator.answers import compose
from genqueue_lab.emulator.catalog import MODELS, Model, describe, page
from genqueue_lab.emulator.control import Control
from genqueue_lab.emulator.delivery import send_bytes, send_json, stream, whole
from genqueue_lab.emulator.dialect import DEVELOPER
from genqueue_lab.emulator.errors import (
    GoogleError,
    invalid,
    missing_key,
    unknown_model,
    wrong_key,
)
from genqueue_lab.emulator.faults import Faults, Rule, Standing
from genqueue_lab.emulator.files import Files
from genqueue_lab.emulator.openai import Chat
from genqueue_lab.emulator.quotas import Meters
from genqueue_lab.emulator.requests import GenerateRequest, count_tokens, parse_generate
from genqueue_lab.emulator.stats import CONTROL, Stats
from genqueue_lab.emulator.strikes import Struck, StruckExchange
from genqueue_lab.emulator.tokens import Tokens
from genqueue_lab.emulator.vertex import VERTEX, Address, is_listing, published

if TYPE_CHECKING:
    from genqueue_lab.emulator.dialect import Dialect
    from genqueue_lab.emulator.exchange import Exchange, Headers
    from genqueue_lab.emulator.options import Options, Pace

_ROUTE = re.compile(r"/(?P<version>v1|v1beta|v1alpha)/models(?:/(?P<model>[^/:]+)(?::(?P<method>\w+))?)?")
_NO_PAGE = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
_HTML = "text/html; charset=UTF-8"
_TIERS = {"standard", "flex", "priority"}
_METHODS = {"countTokens", "generateContent", "streamGenerateContent"}
_REJECTED_KEYS = ("wrong", "invalid")

_OWN_FIELDS = "x-emulator-"

#: The header field with a fault for its own request, in the short form.
FAULT = "x-emulator-fault"


@dataclass(frozen=True, slots=True)
class Caller:
    """How a request is made, and whose quota it uses."""

    dialect: Dialect
    holder: str


class Gemini:
    """The API; `pace`, faults and quotas can be changed while it runs."""

    def __init__(self, options: Options, stats: Stats) -> None:
        self.pace = options.pace
        self.stats = stats
        self.files = Files()
        self.faults = Faults(options.faults)
        self.meters = Meters(options.quota)
        self.tokens = Tokens()
        self._api_key = options.api_key
        self._control = Control(self)
        self._chat = Chat(self)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        if exchange.request.path.startswith(CONTROL):
            await self._control.answer(exchange)
            return
        if self._chat.serves(exchange.request):
            await self._chat.answer(exchange)
            return
        try:
            await self._route(exchange)
        except GoogleError as error:
            await self._refuse(exchange, error)

    async def _refuse(self, exchange: Exchange, error: GoogleError) -> None:
        request = exchange.request
        listed = request.path.endswith(":streamGenerateContent") and request.query.get("alt") != "sse"
        fields = _headers(exchange)
        if error.retry_after is not None:
            fields.append(("retry-after", f"{error.retry_after:.0f}"))
        if error.page is not None:
            await send_bytes(exchange, error.code, error.page, [("content-type", _HTML), *fields])
            return
        body = error.body()
        await send_json(exchange, error.code, [body] if listed else body, fields)

    async def _route(self, exchange: Exchange) -> None:
        request = exchange.request
        if self.tokens.serves(request):
            await self.tokens.answer(exchange)
        elif request.method == "POST" and (address := Address.parse(request.path)) is not None:
            self.tokens.check(request)
            exchange.record.model = address.model_id
            await self._call(exchange, address.find(), address.method, Caller(VERTEX, address.project))
        elif request.method == "GET" and is_listing(request.path):
            self.tokens.check(request)
            await send_json(exchange, 200, published(request.query), _headers(exchange))
        else:
            await self._route_by_key(exchange)

    async def _route_by_key(self, exchange: Exchange) -> None:
        """Answer a request to the Developer API."""
        request = exchange.request
        if self.files.serves(request):
            if not self.files.continues(request):
                self._check_key(exchange)
            await self.files.answer(exchange, _headers(exchange), self.pace.processing)
            return
        route = _ROUTE.fullmatch(request.path)
        if route is None or (request.method == "POST") != bool(route["method"]):
            await send_bytes(exchange, 404, _NO_PAGE, [("content-type", _HTML)])
            return
        self._check_key(exchange)
        if route["method"]:
            exchange.record.model = route["model"]
            model = _find(route["model"], route["version"], route["method"])
            await self._call(exchange, model, route["method"], Caller(DEVELOPER, _key(exchange)))
        elif route["model"]:
            await send_json(exchange, 200, describe(route["model"], route["version"]), _headers(exchange))
        else:
            await send_json(exchange, 200, page(request.query), _headers(exchange))

    def _check_key(self, exchange: Exchange) -> None:
        key = _key(exchange)
        if not key:
            raise missing_key()
        if not self.accepts(key):
            raise wrong_key()

    def accepts(self, key: str) -> bool:
        """Whether a key is in force."""
        return not key.startswith(_REJECTED_KEYS) if self._api_key is None else key == self._api_key

    async def _call(self, exchange: Exchange, model: Model, method: str, caller: Caller) -> None:
        match method:
            case "countTokens":
                await self._count(exchange, model, caller)
            case "generateContent" | "streamGenerateContent":
                await self._generate(exchange, model, caller, streamed=method == "streamGenerateContent")
            case _:
                await send_bytes(exchange, 404, _NO_PAGE, [("content-type", _HTML)])

    async def _count(self, exchange: Exchange, model: Model, caller: Caller) -> None:
        count = count_tokens(exchange.request, model, caller.dialect.count)
        body: dict[str, Any] = {
            "totalTokens": count,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": count}],
        }
        await send_json(exchange, 200, body, _headers(exchange))

    async def _generate(self, exchange: Exchange, model: Model, caller: Caller, *, streamed: bool) -> None:
        pace = self.pace_for(exchange)
        asked = parse_generate(exchange.request, model, caller.dialect.generate)
        self.stats.received(exchange.request.body)
        self.stats.called(exchange.record, asked.fingerprint, asked.prompt)
        self.files.check(asked.contents)
        self._check_quota(exchange, model, caller)
        if (standing := self.fault_for(exchange, asked, model)) is not None:
            exchange = StruckExchange(exchange, standing)
            if (refusal := await exchange.refusal()) is not None:
                raise refusal
        tier = asked.tier if asked.tier in _TIERS else "standard"
        reply = caller.dialect.reply(compose(asked, model, pace), model.id, asked.prompt_tokens, tier)
        deliver = stream if streamed else whole
        with contextlib.suppress(Struck):
            await deliver(exchange, reply, pace, _headers(exchange, tier, pace.ttft))

    def _check_quota(self, exchange: Exchange, model: Model, caller: Caller) -> None:
        if (excess := self.meters.admit(caller.holder, model.id)) is not None:
            exchange.record.fault = "quota"
            raise caller.dialect.exceeded(excess, model.id)

    def fault_for(self, exchange: Exchange, asked: GenerateRequest, model: Model) -> Standing | None:
        """Return the fault of this request: the one it brings itself, or that of the first rule that matches."""
        if (own := exchange.request.headers.get(FAULT)) is None:
            return self.faults.choose(asked.prompt, asked.fingerprint, model.id)
        try:
            return Standing(0, Rule.parse(own))
        except ValueError as error:
            raise invalid(f"{FAULT} header: {error}") from error

    def pace_for(self, exchange: Exchange) -> Pace:
        """Return the pace in force with the request's own `x-emulator-*` values."""
        values = {
            name.removeprefix(_OWN_FIELDS).replace("-", "_"): value
            for name, value in exchange.request.headers.items()
            if name.startswith(_OWN_FIELDS) and name != FAULT
        }
        try:
            return self.pace.changed(values) if values else self.pace
        except ValueError as error:
            raise invalid(f"x-emulator header: {error}") from error


def _find(model_id: str, version: str, method: str) -> Model:
    """Return a model of the Developer API; raises GoogleError when there is none, or it has no such method."""
    if (model := MODELS.get(model_id)) is None or method not in _METHODS:
        raise unknown_model(model_id, version, method)
    return model


def _key(exchange: Exchange) -> str:
    request = exchange.request
    return request.headers.get("x-goog-api-key") or request.query.get("key") or ""


def _headers(exchange: Exchange, tier: str = "standard", wait: float = 0.0) -> Headers:
    """Return the fields Google sends with every answer; `wait` is what the answer will still be held back."""
    spent = time.monotonic() - exchange.request.received + wait
    return [
        ("x-gemini-service-tier", tier),
        ("vary", "Origin, X-Origin, Referer"),
        ("date", email.utils.formatdate(usegmt=True)),
        ("server", "scaffolding on HTTPServer2"),
        ("x-xss-protection", "0"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-content-type-options", "nosniff"),
        ("server-timing", f"gfet4t7; dur={spent * 1000:.0f}"),
    ]
