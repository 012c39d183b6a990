"""Gemini's Developer API: finds the method, checks the key and the request, and answers."""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
from typing import TYPE_CHECKING, Any

from genqueue_lab.emulator.answers import compose
from genqueue_lab.emulator.catalog import MODELS, Model, describe, page
from genqueue_lab.emulator.control import Control
from genqueue_lab.emulator.delivery import Reply, send_bytes, send_json, stream, whole
from genqueue_lab.emulator.errors import (
    GoogleError,
    invalid,
    missing_key,
    quota_exceeded,
    unknown_model,
    wrong_key,
)
from genqueue_lab.emulator.faults import Faults, Rule, Standing
from genqueue_lab.emulator.files import Files
from genqueue_lab.emulator.quotas import Meters
from genqueue_lab.emulator.requests import GenerateRequest, count_tokens, parse_generate
from genqueue_lab.emulator.stats import CONTROL, Stats
from genqueue_lab.emulator.strikes import Struck, StruckExchange

if TYPE_CHECKING:
    from genqueue_lab.emulator.exchange import Exchange, Headers
    from genqueue_lab.emulator.options import Options, Pace

_ROUTE = re.compile(r"/(?P<version>v1|v1beta|v1alpha)/models(?:/(?P<model>[^/:]+)(?::(?P<method>\w+))?)?")
_NO_PAGE = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
_HTML = "text/html; charset=UTF-8"
_TIERS = {"standard", "flex", "priority"}
_REJECTED_KEYS = ("wrong", "invalid")

_OWN_FIELDS = "x-emulator-"

#: The header field with a fault for its own request, in the short form.
FAULT = "x-emulator-fault"


class Gemini:
    """The API; `pace`, faults and quotas can be changed while it runs."""

    def __init__(self, options: Options, stats: Stats) -> None:
        self.pace = options.pace
        self.stats = stats
        self.files = Files()
        self.faults = Faults(options.faults)
        self.meters = Meters(options.quota)
        self._api_key = options.api_key
        self._control = Control(self)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        if exchange.request.path.startswith(CONTROL):
            await self._control.answer(exchange)
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
            await self._call(exchange, route["model"], route["version"], route["method"])
        elif route["model"]:
            await send_json(exchange, 200, describe(route["model"], route["version"]), _headers(exchange))
        else:
            await send_json(exchange, 200, page(request.query), _headers(exchange))

    def _check_key(self, exchange: Exchange) -> None:
        key = _key(exchange)
        if not key:
            raise missing_key()
        accepted = not key.startswith(_REJECTED_KEYS) if self._api_key is None else key == self._api_key
        if not accepted:
            raise wrong_key()

    async def _call(self, exchange: Exchange, model_id: str, version: str, method: str) -> None:
        exchange.record.model = model_id
        if (model := MODELS.get(model_id)) is None:
            raise unknown_model(model_id, version, method)
        match method:
            case "countTokens":
                await self._count(exchange, model)
            case "generateContent" | "streamGenerateContent":
                await self._generate(exchange, model, streamed=method == "streamGenerateContent")
            case _:
                raise unknown_model(model_id, version, method)

    async def _count(self, exchange: Exchange, model: Model) -> None:
        count = count_tokens(exchange.request, model)
        body: dict[str, Any] = {
            "totalTokens": count,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": count}],
        }
        await send_json(exchange, 200, body, _headers(exchange))

    async def _generate(self, exchange: Exchange, model: Model, *, streamed: bool) -> None:
        pace = self._pace_for(exchange)
        asked = parse_generate(exchange.request, model)
        self.stats.received(exchange.request.body)
        self.stats.called(exchange.record, asked.fingerprint, asked.prompt)
        self.files.check(asked.contents)
        self._check_quota(exchange, model)
        if (standing := self._fault_for(exchange, asked, model)) is not None:
            exchange = StruckExchange(exchange, standing)
            if (refusal := await exchange.refusal()) is not None:
                raise refusal
        tier = asked.tier if asked.tier in _TIERS else "standard"
        reply = Reply(compose(asked, model, pace), model.id, asked.prompt_tokens, tier)
        deliver = stream if streamed else whole
        with contextlib.suppress(Struck):
            await deliver(exchange, reply, pace, _headers(exchange, tier, pace.ttft))

    def _check_quota(self, exchange: Exchange, model: Model) -> None:
        if (excess := self.meters.admit(_key(exchange), model.id)) is not None:
            exchange.record.fault = "quota"
            raise quota_exceeded(excess, model.id)

    def _fault_for(self, exchange: Exchange, asked: GenerateRequest, model: Model) -> Standing | None:
        """Return the fault of this request: the one it brings itself, or that of the first rule that matches."""
        if (own := exchange.request.headers.get(FAULT)) is None:
            return self.faults.choose(asked.prompt, asked.fingerprint, model.id)
        try:
            return Standing(0, Rule.parse(own))
        except ValueError as error:
            raise invalid(f"{FAULT} header: {error}") from error

    def _pace_for(self, exchange: Exchange) -> Pace:
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
