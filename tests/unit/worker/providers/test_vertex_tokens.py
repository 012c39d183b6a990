"""Access tokens: who waits for one, how many are fetched, and what a failure does."""

import asyncio
import logging
import threading

import pytest

from genqueue_worker.providers import vertex_tokens
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.vertex_tokens import Token, Tokens

AWAY = ProviderError("token_unavailable", "no way there", retryable=True)


class Desk:
    """Gives tokens `t1`, `t2`, ... of some lifetime, as scripted; `began` counts the tries."""

    def __init__(self, *lifetimes):
        self.began = 0
        self.gate = threading.Event()
        self.gate.set()
        self._script = list(lifetimes)
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self):
        """Give the next token, or fail, once the gate is open."""
        self.began += 1
        number = self.began
        self._loop.call_soon_threadsafe(self._changed.set)
        self.gate.wait(10)
        entry = self._script.pop(0) if self._script else None
        if isinstance(entry, Exception):
            raise entry
        return Token({"authorization": f"Bearer t{number}"}, entry)

    async def tried(self, times):
        """Wait until a token was asked for so many times."""
        while self.began < times:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 10)


@pytest.fixture
async def keep():
    """Return a function that makes tokens with a desk, closed afterwards; their clock stands still."""
    made = []

    def keep(*script):
        desk = Desk(*script)
        tokens = Tokens(desk, "eu", clock=lambda: 100.0)
        made.append((tokens, desk))
        return tokens, desk

    yield keep
    for tokens, desk in made:
        desk.gate.set()
        await tokens.aclose()


async def shown(tokens):
    """Return the token a request would show."""
    return (await tokens.headers())["authorization"].removeprefix("Bearer ")


async def test_without_a_token_all_wait_for_one(keep):
    """Many requests at once fetch a single token."""
    tokens, desk = keep(3600.0)
    assert await asyncio.gather(*(shown(tokens) for _ in range(5))) == ["t1"] * 5
    assert (await shown(tokens), desk.began) == ("t1", 1)


async def test_nobody_waits_for_the_next_token(keep):
    """It is fetched before the old one's end, which is shown until then."""
    tokens, desk = keep(0.02, 3600.0)
    await tokens.token()
    desk.gate.clear()
    await desk.tried(2)
    assert await shown(tokens) == "t1"
    desk.gate.set()
    refused = {}
    assert await tokens.renewed(await tokens.headers() or refused, AWAY) == {"authorization": "Bearer t2"}
    assert (await shown(tokens), desk.began) == ("t2", 2)


async def test_a_failed_refresh_is_told_and_tried_again(keep, caplog, monkeypatch):
    """The token in force serves meanwhile; the log says what to do and not the token."""
    monkeypatch.setattr(vertex_tokens, "FIRST_PAUSE", 0.001)
    with caplog.at_level(logging.INFO):
        tokens, desk = keep(0.02, AWAY, AWAY, 3600.0)
        await tokens.token()
        await desk.tried(3)
        assert await shown(tokens) == "t1"
        await desk.tried(4)
    assert "vertex.token_failed route=eu left=" in caplog.text
    assert "error=no way there; trying again in" in caplog.text
    assert "Bearer" not in caplog.text


async def test_without_a_token_a_failure_is_remembered(keep):
    """Requests do not all knock at a door that is shut; they learn when the next try is."""
    tokens, desk = keep(AWAY)
    for retry_after in (None, 1.0):
        with pytest.raises(ProviderError) as raised:
            await tokens.token()
        assert (raised.value.code, raised.value.retryable) == ("token_unavailable", True)
        assert raised.value.retry_after == retry_after
    assert desk.began == 1


async def test_a_refused_token_is_replaced_once(keep):
    """All who were refused with it get the next; when that is refused too, it is not the token."""
    tokens, desk = keep(None, None, None)
    first = await tokens.headers()
    refusal = ProviderError("UNAUTHENTICATED", "no", 401)
    renewed = await asyncio.gather(*(tokens.renewed(first, refusal) for _ in range(3)))
    assert [headers["authorization"] for headers in renewed] == ["Bearer t2"] * 3
    assert (await tokens.renewed(first, refusal))["authorization"] == "Bearer t2"
    with pytest.raises(ProviderError, match="no"):
        await tokens.renewed(renewed[0], refusal)
    assert desk.began == 2


async def test_any_failure_reaches_who_waits(keep):
    """A defect does not leave requests hanging."""
    tokens, _ = keep(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await tokens.token()


async def test_closing_waits_for_no_thread(keep):
    """A sign-in under way may take as long as it likes."""
    tokens, desk = keep(None)
    desk.gate.clear()
    waiting = asyncio.create_task(tokens.token())
    await desk.tried(1)
    await tokens.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
