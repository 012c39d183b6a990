"""Steers a running emulator: statistics, pace, reset, and waiting for what it sees."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from genqueue_lab.emulator.delivery import send_json

if TYPE_CHECKING:
    from genqueue_lab.emulator.exchange import Exchange, Request
    from genqueue_lab.emulator.files import Files
    from genqueue_lab.emulator.options import Pace
    from genqueue_lab.emulator.stats import Stats

#: Seconds a wait may last when the caller does not say.
WAIT = 10.0

_AT_LEAST, _AT_MOST = "_at_least", "_at_most"


class Steered(Protocol):
    """What is steered."""

    files: Files
    pace: Pace
    stats: Stats


class Control:
    """Answers requests under /emulator/."""

    def __init__(self, steered: Steered) -> None:
        self._steered = steered

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request; wrong values get 400 and a sentence."""
        request = exchange.request
        try:
            match request.method, request.path.rstrip("/"):
                case "GET", "/emulator/stats":
                    details = request.query.get("details", "1") != "0"
                    status, body = 200, self._steered.stats.snapshot(details=details)
                case "GET", "/emulator/bodies":
                    status, body = 200, {"bodies": [msgspec.Raw(one) for one in self._steered.stats.bodies()]}
                case "GET", "/emulator/wait":
                    status, body = await self._wait(request.query)
                case "GET", "/emulator/files":
                    status, body = 200, {"files": [file.describe() for file in self._steered.files.log]}
                case "POST", "/emulator/settings":
                    status, body = 200, self._set(request)
                case "POST", "/emulator/reset":
                    self._steered.stats.reset()
                    status, body = 200, {}
                case method, path:
                    known = "stats, bodies, files, wait, settings, reset"
                    status, body = 404, {"error": f"no {method} {path} here: {known}"}
        except ValueError as error:  # msgspec's errors are ValueErrors
            status, body = 400, {"error": str(error)}
        await send_json(exchange, status, body, [])

    def _set(self, request: Request) -> dict[str, Any]:
        """Change the pace and return the one before."""
        values = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
        before = self._steered.pace
        self._steered.pace = before.changed(values)
        return msgspec.structs.asdict(before)

    async def _wait(self, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Wait for totals: `live_at_most=0&cancelled_at_least=1&timeout=5`; 408 when they were not reached."""
        stats = self._steered.stats
        bounds = {name: float(value) for name, value in query.items()}
        timeout = bounds.pop("timeout", WAIT)
        at_least = {name.removesuffix(_AT_LEAST): bound for name, bound in bounds.items() if name.endswith(_AT_LEAST)}
        at_most = {name.removesuffix(_AT_MOST): bound for name, bound in bounds.items() if name.endswith(_AT_MOST)}
        known = stats.totals().keys()
        if len(at_least) + len(at_most) < len(bounds) or not known >= at_least.keys() | at_most.keys():
            raise ValueError(f"a bound is <total>{_AT_LEAST} or <total>{_AT_MOST}; the totals are {', '.join(known)}")
        try:
            async with asyncio.timeout(timeout):
                await stats.reached(at_least, at_most)
        except TimeoutError:
            return 408, stats.snapshot(details=False)
        return 200, stats.snapshot()
