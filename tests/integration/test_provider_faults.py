"""What the emulator does wrong, over real HTTP/2, and what it is called."""

import asyncio
import contextlib
import secrets
from types import SimpleNamespace

import pytest

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini import GeminiProvider
from genqueue_worker.providers.seam import ProviderRequest, Route
from genqueue_worker.stalls import Heard, Limits, Stalls

MODEL = "gemini-2.5-flash"

#: Faults; the code ("" is any), whether the request may be tried again and the seconds told; None for a whole answer.
FAULTS = [
    ({"kind": "reset"}, ("protocol_error", True, None)),
    ({"kind": "reset", "after": 2}, ("protocol_error", True, None)),
    ({"kind": "reset", "after": 2, "code": "REFUSED_STREAM"}, ("protocol_error", True, None)),
    ({"kind": "goaway", "after": 2}, ("connection_lost", True, None)),
    (
        {"kind": "goaway", "after": 2, "code": "ENHANCE_YOUR_CALM", "last_stream": "all"},
        ("connection_lost", True, None),
    ),
    ({"kind": "goaway", "after": 2, "graceful": True}, None),
    ({"kind": "disconnect", "after": 2}, ("connection_lost", True, None)),
    ({"kind": "disconnect", "after": 2, "tcp": "fin"}, ("connection_lost", True, None)),
    ({"kind": "truncate"}, ("truncated_stream", True, None)),
    ({"kind": "truncate", "after": 2}, ("truncated_stream", True, None)),
    ({"kind": "truncate", "after": 2, "whole": True}, ("truncated_stream", True, None)),
    ({"kind": "split_json"}, None),
    ({"kind": "error_in_stream", "retry_info": 0.25}, ("RESOURCE_EXHAUSTED", True, 0.25)),
    ({"kind": "error_in_stream", "after": 2, "data": True, "retry_info": 1.5}, ("RESOURCE_EXHAUSTED", True, 1.5)),
    ({"kind": "error_in_stream", "after": 2, "status": 503}, ("UNAVAILABLE", True, None)),
    ({"kind": "error_in_stream", "after": 2, "status": 400}, ("INVALID_ARGUMENT", False, None)),
    ({"kind": "status", "status": 429, "retry_info": 33}, ("RESOURCE_EXHAUSTED", True, 33.0)),
    ({"kind": "status", "status": 429, "retry_after": 7}, ("RESOURCE_EXHAUSTED", True, 7.0)),
    *[({"kind": "status", "status": status}, ("", True, None)) for status in (408, 500, 502, 503, 504)],
    *[({"kind": "status", "status": status}, ("", False, None)) for status in (400, 401, 403, 404)],
    ({"kind": "region_forbidden"}, ("PERMISSION_DENIED", False, None)),
]


@pytest.fixture
def route(emulator):
    """Return the way to the emulator."""
    return Route("emulator", emulator.url, "a-key", str(emulator.ca_file))


@pytest.fixture
async def provider():
    """Return a provider that is closed afterwards."""
    async with GeminiProvider() as opened:
        yield opened


def asking(prompt):
    """Return a request."""
    return ProviderRequest(MODEL, [{"role": "user", "parts": [{"text": prompt}]}])


async def listened(provider, prompt, route):
    """Return how many chunks came, and the error that ended them."""
    count = 0
    try:
        async with contextlib.aclosing(provider.stream(asking(prompt), route)) as chunks:
            async for _ in chunks:
                count += 1
    except ProviderError as error:
        return count, error
    return count, None


async def test_a_fault_is_called_by_its_name(provider, route, emulator):
    """Whether it may be tried again, and when; what came before it is there, and the next answer is whole."""
    found, expected = [], []
    for fault, error in FAULTS:
        prompt = f"fault {secrets.token_hex(8)}"
        await asyncio.to_thread(emulator.fault, **fault, match=prompt, times=1)
        count, raised = await listened(provider, prompt, route)
        if raised is None:
            found.append((fault, None))
            expected.append((fault, error))
            continue
        again = (await listened(provider, prompt, route))[1]
        code = raised.code if error is None or error[0] else ""
        found.append((fault, (code, raised.retryable, raised.retry_after), count, again))
        expected.append((fault, error, fault.get("after", 0), None))
    assert found == expected


async def test_a_silent_provider_is_cut_and_learns_of_it(provider, own_emulator):
    """Its stream is reset at once, before the answer's head as well, and nothing of it is left here."""
    faults = [("silence", 0, "first_token_timeout"), ("stall", 0, "first_token_timeout"), ("stall", 2, "token_timeout")]
    route = Route("emulator", own_emulator.url, "a-key", str(own_emulator.ca_file))
    stalls = Stalls(Limits(0.3, {"low": 30.0}), Limits(0.3))  # before a first token that does come, nothing is hurried
    for number, (kind, after, _) in enumerate(faults):
        await asyncio.to_thread(own_emulator.fault, kind, after=after, match=f"fault {number}")
    found = await asyncio.gather(
        *(
            listened(
                Heard(provider, stalls, SimpleNamespace(lane="low" if after else "high")), f"fault {number}", route
            )
            for number, (_, after, _) in enumerate(faults)
        )
    )
    assert [(count, error.code, error.retryable) for count, error in found] == [
        (after, code, True) for _, after, code in faults
    ]
    await asyncio.to_thread(own_emulator.wait, 1.0, cancelled_at_least=3, live_at_most=0)
    assert provider.counters(route).live_streams == 0
