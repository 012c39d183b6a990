"""Steers a running emulator: statistics, pace, reset, and waiting for what it sees."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from genqueue_lab.emulator.delivery import send_json
from genqueue_lab.emulator.faults import Faults, Rule

if TYPE_CHECKING:
    from genqueue_lab.emulator.exchange import Exchange, Request
    from genqueue_lab.emulator.files import Files
    from genqueue_lab.emulator.options import Pace
    from genqueue_lab.emulator.quotas import Meters
    from genqueue_lab.emulator.stats import Stats
    from genqueue_lab.emulator.tokens import Tokens

#: Seconds a wait may last when the caller does not say.
WAIT = 10.0

_AT_LEAST, _AT_MOST = "_at_least", "_at_most"


class Steered(Protocol):
    """What is steered."""

    faults: Faults
    files: Files
    meters: Meters
    pace: Pace
    stats: Stats
    tokens: Tokens


class Control:
    """Answers requests under /emulator/."""

    def __init__(self, steered: Steered) -> None:
        self._steered = steered

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request; wrong values get 400 and a sentence."""
        request = exchange.request
        try:
            if request.method == "GET" and request.path.rstrip("/") == "/emulator/wait":
                status, body = await self._wait(request.query)
            else:
                status, body = (
                    self._show(request) or self._steer(request) or self._sign_in(request) or _nothing(request)
                )
        except ValueError as error:  # msgspec's errors are ValueErrors
            status, body = 400, {"error": str(error)}
        await send_json(exchange, status, body, [])

    def _show(self, request: Request) -> tuple[int, dict[str, Any]] | None:
        steered = self._steered
        match request.method, request.path.rstrip("/"):
            case "GET", "/emulator/stats":
                seen = steered.stats.snapshot(details=request.query.get("details", "1") != "0")
                return 200, seen | self._wanted(request.query)
            case "GET", "/emulator/bodies":
                return 200, {"bodies": [msgspec.Raw(one) for one in steered.stats.bodies()]}
            case "GET", "/emulator/files":
                return 200, {"files": [file.describe() for file in steered.files.log]}
            case "GET", "/emulator/faults":
                return 200, {"faults": steered.faults.describe()}
            case "GET", "/emulator/quotas":
                return 200, {**msgspec.structs.asdict(steered.meters.quota), "refused": steered.meters.refused}
            case _:
                return None

    def _wanted(self, query: dict[str, str]) -> dict[str, Any]:
        """Return the counts of every prompt, if asked for."""
        return {"prompts": self._steered.stats.prompts()} if query.get("prompts", "0") != "0" else {}

    def _steer(self, request: Request) -> tuple[int, dict[str, Any]] | None:
        match request.method, request.path.rstrip("/"):
            case "POST", "/emulator/settings":
                return 200, self._set(request)
            case "POST", "/emulator/reset":
                self._steered.stats.reset()
                return 200, {}
            case "POST", "/emulator/faults":
                return 200, {"faults": [one.describe() for one in self._steered.faults.add(_rules(request))]}
            case "DELETE", "/emulator/faults":
                number = int(request.query["id"]) if "id" in request.query else None
                return 200, {"faults": [one.describe() for one in self._steered.faults.remove(number)]}
            case "POST", "/emulator/quotas":
                return 200, msgspec.structs.asdict(self._steered.meters.change(_values(request)))
            case _:
                return None

    def _set(self, request: Request) -> dict[str, Any]:
        """Change the pace and return the one before."""
        values = _values(request)
        before = self._steered.pace
        self._steered.pace = before.changed(values)
        return msgspec.structs.asdict(before)

    def _sign_in(self, request: Request) -> tuple[int, dict[str, Any]] | None:
        """Steer access tokens and accounts: `{"project": "p", "kind": "service_account"}`, or "authorized_user"."""
        tokens = self._steered.tokens
        match request.method, request.path.rstrip("/"):
            case "GET", "/emulator/tokens":
                return 200, tokens.describe()
            case "POST", "/emulator/tokens":
                return 200, tokens.change(_values(request))
            case "DELETE", "/emulator/tokens":
                return 200, {"revoked": tokens.revoke()}
            case "POST", "/emulator/accounts":
                return 200, tokens.open_account(f"https://{request.host}", **_values(request))
            case _:
                return None

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


def _values(request: Request) -> dict[str, Any]:
    """Return what a request says."""
    values: dict[str, Any] = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
    return values


def _rules(request: Request) -> list[Rule]:
    """Return the rules a request brings: one object, a list of them, or the short form in a JSON text."""
    given = msgspec.json.decode(request.body or b"{}")
    return [Rule.parse(one) if isinstance(one, str) else Rule.convert(one) for one in _listed(given)]


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _nothing(request: Request) -> tuple[int, dict[str, Any]]:
    known = "stats, bodies, files, wait, settings, reset, faults, quotas, tokens, accounts"
    return 404, {"error": f"no {request.method} {request.path} here: {known}"}
