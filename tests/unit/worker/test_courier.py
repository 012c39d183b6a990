"""One pipeline in flight, the rest in the next: nothing lost, nothing out of order, nobody waiting for long."""

import asyncio
import contextlib

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from genqueue import ledger
from genqueue_worker import courier as courier_module
from genqueue_worker.courier import Courier


def delta(text):
    """Return a stream entry."""
    return {"type": "delta", "text": text}


def renewal(keys, token):
    """Return some call."""
    return ledger.renew(keys, "3-" + "f" * 20, token, 1000)


def first_of(append):
    """Return the number of an append's first entry, and how many there are."""
    return append.args[3], append.args[4]


def obedient(call):
    """Answer like a ledger that has everything that was sent."""
    first, count = first_of(call) if call.script.name == "append" else (1, 0)
    return [b"ok", first + count - 1]


@pytest.fixture
async def courier(data_server, keys, monkeypatch):
    """Run a courier that does not pause while the server is away."""
    monkeypatch.setattr(courier_module, "RETRY", 0)
    data_server.answer = obedient
    made = Courier(None, keys)
    running = asyncio.ensure_future(made.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_an_idle_courier_goes_at_once(courier, data_server, keys):
    """There is no timer to wait for."""
    assert await courier.ask(renewal(keys, "a")) == [b"ok", 0]
    assert data_server.names() == [["renew"]]


async def test_what_comes_meanwhile_goes_together(courier, data_server, keys, make_attempt):
    """Calls in their order, then one append for each stream with all its entries."""
    one, other = make_attempt("one"), make_attempt("other")
    data_server.opened.clear()
    asked = [asyncio.ensure_future(courier.ask(renewal(keys, "a")))]
    await data_server.has(1)
    for text in "xyz":
        courier.write(one, [delta(text)])
    courier.write(other, [delta("w")])
    asked += [asyncio.ensure_future(courier.ask(renewal(keys, token))) for token in "bc"]
    await asyncio.sleep(0)
    data_server.opened.set()
    await asyncio.gather(*asked)
    await data_server.has(2)
    assert data_server.names() == [["renew"], ["renew", "renew", "append", "append"]]
    assert [first_of(call) for call in data_server.pipelines[1][2:]] == [(1, 3), (1, 1)]


async def test_more_than_one_call_carries_goes_in_slices(courier, data_server, keys, make_attempt, monkeypatch):
    """One after the other, as what gathered while the server was away may hold it up for long."""
    monkeypatch.setattr("genqueue.ledger.entries.SLICE_COUNT", 2)
    attempt = make_attempt()
    courier.write(attempt, [delta(text) for text in "abcde"])
    await data_server.has(3)
    assert [first_of(append) for [append] in data_server.pipelines] == [(1, 2), (3, 2), (5, 1)]
    await courier.ask(renewal(keys, "a"))
    assert attempt.written == 5


async def test_entries_are_numbered_on(courier, data_server, keys, make_attempt):
    """Each append begins behind what the ledger has confirmed."""
    attempt = make_attempt()
    for text in "abc":
        courier.write(attempt, [delta(text)])
        await courier.ask(renewal(keys, text))
    assert [first_of(append) for _, append in data_server.pipelines] == [(1, 1), (2, 1), (3, 1)]
    assert attempt.written == 3


async def test_a_gap_is_filled_from_where_the_ledger_says(courier, data_server, keys, make_attempt):
    """A server that came back with less than it had confirmed gets it again."""
    attempt = make_attempt()
    courier.write(attempt, [delta("a"), delta("b")])
    await courier.ask(renewal(keys, "a"))
    data_server.answer = lambda call: (
        [b"gap", 0] if call.script.name == "append" and call.args[3] > 1 else obedient(call)
    )
    courier.write(attempt, [delta("c")])
    await courier.ask(renewal(keys, "b"))
    await data_server.has(3)
    appends = [call for pipeline in data_server.pipelines for call in pipeline if call.script.name == "append"]
    assert [first_of(call) for call in appends] == [(1, 2), (3, 1), (1, 3)]


@pytest.mark.parametrize("reply", [[b"refused", 0], [b"gone", 0]])
async def test_a_void_token_stops_the_attempt(courier, data_server, make_attempt, reply):
    """Nothing it writes counts any more."""
    attempt = make_attempt()
    data_server.answer = lambda call: reply
    courier.write(attempt, [delta("a")])
    with pytest.raises(asyncio.CancelledError):
        await attempt.task
    assert attempt.refused


async def test_a_server_that_refuses_for_a_while_stops_nobody(courier, data_server, make_attempt):
    """Read-only after a failover, short of replicas, out of disk: the entries are sent again until they are through."""
    attempt = make_attempt()
    data_server.answer = lambda call: ResponseError("NOREPLICAS Not enough good replicas to write.")
    courier.write(attempt, [delta("a")])
    await data_server.has(2)
    data_server.answer = obedient
    await data_server.has(len(data_server.pipelines) + 1)
    assert (attempt.refused, first_of(data_server.pipelines[-1][-1])) == (False, (1, 1))


async def test_a_void_token_harms_nobody_else(courier, data_server, keys, make_attempt):
    """The others in the same pipeline get their own replies."""
    void, good = make_attempt("void"), make_attempt("good")
    data_server.opened.clear()
    asked = asyncio.ensure_future(courier.ask(renewal(keys, "a")))
    await data_server.has(1)
    data_server.answer = lambda call: [b"refused", 0] if "void" in call.args else obedient(call)
    courier.write(void, [delta("a")])
    courier.write(good, [delta("a")])
    data_server.opened.set()
    assert await asked == [b"ok", 0]
    with pytest.raises(asyncio.CancelledError):
        await void.task
    assert (good.refused, good.written) == (False, 1)


async def test_an_outage_fails_calls_and_keeps_entries(courier, data_server, keys, make_attempt):
    """Whoever asked is told; entries are sent again until they are through, once each."""
    attempt = make_attempt()
    data_server.away = RedisConnectionError("away")
    asked = asyncio.ensure_future(courier.ask(renewal(keys, "a")))
    courier.write(attempt, [delta("a")])
    with pytest.raises(RedisConnectionError):
        await asked
    await data_server.has(3)
    courier.write(attempt, [delta("b")])
    data_server.away = None
    await courier.ask(renewal(keys, "b"))
    assert first_of(data_server.pipelines[-1][-1]) == (1, 2)
    assert attempt.written == 2
    assert not attempt.refused


async def test_an_attempt_that_settles_sends_nothing_more(courier, data_server, keys, make_attempt):
    """Its settlement carries the rest."""
    attempt = make_attempt()
    attempt.settling = True
    courier.write(attempt, [delta("a")])
    await courier.ask(renewal(keys, "a"))
    assert data_server.names() == [["renew"]]
    assert first_entries(attempt) == [delta("a")]


def first_entries(attempt):
    """Return the entries its settlement would carry."""
    return list(attempt.unsent().entries)


async def test_a_call_nobody_waits_for_any_more_is_harmless(courier, data_server, keys):
    """The next one is served."""
    data_server.opened.clear()
    given_up = asyncio.ensure_future(courier.ask(renewal(keys, "a")))
    await data_server.has(1)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    data_server.opened.set()
    assert await courier.ask(renewal(keys, "b")) == [b"ok", 0]


async def test_a_refused_call_raises_for_its_caller_only(courier, data_server, keys):
    """The server's own words."""
    data_server.answer = lambda call: ResponseError("ERR") if "a" in call.args else [b"ok", 0]
    with pytest.raises(ResponseError):
        await courier.ask(renewal(keys, "a"))
    assert await courier.ask(renewal(keys, "b")) == [b"ok", 0]
